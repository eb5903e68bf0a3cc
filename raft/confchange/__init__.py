"""Changes of the membership: from one configuration to the next, with the progress of every node carried over.

Only changes of one voter at a time are made here (paper section 6 as simplified in thesis section 4.1: any majority of
the old set and any majority of the new one share a node, so no joint configuration is needed). Learners and joint
changes are refused with a `ConfChangeError` that says so.

Follows etcd-io/raft: confchange/.
"""

from raft.confchange.confchange import Changer, check_supported
from raft.confchange.restore import restore

__all__ = ["Changer", "check_supported", "restore"]
