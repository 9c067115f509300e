"""What the tests share: real services, virtual time, stores with faults, and witnesses."""
