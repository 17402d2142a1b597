"""Where one walks: the only package with Textual."""
