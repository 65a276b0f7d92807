"""What `room-worker` can be told to do; one file a command. (contract.md, section 8)"""
