"""The key service: answers members' requests for room keys. (docs/contract.md, section 6)"""
