"""What the user gets: files of one case, the preview picture, tables in the terminal."""
