"""One HTML file to read: a case with its slices, surfaces and tables, or a cohort with its flags."""
