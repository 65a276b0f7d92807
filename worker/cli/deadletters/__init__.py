"""`room-worker deadletters`: lists, shows and replays dead letters."""
