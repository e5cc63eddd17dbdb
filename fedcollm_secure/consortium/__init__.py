"""Who belongs to a consortium, and what they agree to: keys, invitations, rosters, plans. Files and signatures alone.

    certificates.py  what connections are known by       folder.py     what one party keeps, and where
    cards.py         an invitation, and its answer       rosters.py    drafted, signed by all, closed
    plans.py         a plan, signed, with its roster     agreement.py  a silo's own law, held against a plan

Nothing here opens a connection: every file is one that a person can carry.
"""
