"""What becomes of a batch that fails: a smaller one, a pause, or a room that is set aside. (docs/design.md, "Blame")"""
