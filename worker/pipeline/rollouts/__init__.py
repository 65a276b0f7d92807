"""Keys that reach their members beside the loop, page by page. (docs/design.md, "Large rooms")"""
