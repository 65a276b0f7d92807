"""`room-worker deadletters`: lists dead letters, shows one, or publishes their events again."""
