"""Reports: files, text and figures."""
