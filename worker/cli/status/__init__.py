"""`room-worker status`: what a site is doing, from its database and its streams. It asks no worker."""
