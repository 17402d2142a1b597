"""Where it comes from: loading a model and reading its weights. The only package with torch and transformers."""
