"""An engine over plain mutual TLS 1.3: silos dial, the coordinator listens, each knows the other's one certificate.

frames.py: what travels on a connection. credentials.py: own certificate, and those of the roster. listener.py: the
coordinator's end, an `Engine`. dialler.py: the silo's end, which answers requests and comes back when it is cut off.

No library stands between Python's `ssl` and our messages, which are signed by themselves (`federation.envelope`): what
this room is trusted with is delivery.
"""
