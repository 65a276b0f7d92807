"""The recorder and the judge of what it recorded."""
