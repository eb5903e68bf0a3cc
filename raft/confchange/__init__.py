"""Changes of the membership: from one configuration to the next, with the progress of every node carried over.

    simple        one voter at most (thesis section 4.1: any majority before and any one after share a node)
    joint         any number: first both sets decide together, then the new one alone (paper section 6)

                       enter_joint                        leave_joint
        voters=(1 2 3) ───────────► voters=(3 4 5)&&(1 2 3) ───────────► voters=(3 4 5)

Follows etcd-io/raft: confchange/.
"""

from raft.confchange.confchange import Changer
from raft.confchange.restore import restore

__all__ = ["Changer", "restore"]
