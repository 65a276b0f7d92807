"""Dead letters, which go out beside the loop. (docs/design.md, "Dead letters")"""
