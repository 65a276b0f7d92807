"""The key service: answers members' requests for room keys. (docs/contract.md, section 6)

`service` accepts requests and sends replies, `endpoints` decides what a reply contains, `batching` shares reads
of the database between requests. It publishes nothing but replies, and knows nothing of partitions.
"""
