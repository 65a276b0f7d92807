"""What the loop of a partition holds: events that wait, the batch in hand, and what is not finished."""
