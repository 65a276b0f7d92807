"""What has to be there before the worker is ready: the server's abilities, rights, collections and indexes."""
