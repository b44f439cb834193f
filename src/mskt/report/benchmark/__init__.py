"""What a benchmark writes: one content, as JSON, Markdown and HTML, and its table of rows."""
