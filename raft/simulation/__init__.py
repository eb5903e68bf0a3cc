"""A cluster of Raft nodes in one thread, on a virtual clock, with all that can go wrong, drawn from one seed.

    seed ──► plan.py ──► simulation.py ──► cluster.py ──► peer.py: RawNode, disk.py, application.py
             steps       carries them out  clock, drivers     ▲
                              │              │  network.py ───┘
                              ▼              ▼
                         convergence     invariants.py (after every event)      trace.py (if asked for)

Reading order: disk.py and application.py (what a crash takes back, what the nodes agree on), peer.py (the driver's
contract in three steps), plan.py, network.py, invariants.py, cluster.py, simulation.py; then trace.py, diagram.py and
tla.py (a run as text, picture, and for etcd's TLA+ specification), film/ (a page) and minimise.py; then book.py and readmission.py (nodes
that lose their disks, and the safe way back), with readmission_rules.py and losses.py.

What goes wrong: messages are lost, repeated, late and out of order; links are cut in one direction or both; nodes crash,
also in the middle of a write, and lose what wasn't synced; they pause; their disks are slow and their clocks run at
different speeds; leaders are replaced, members change, logs are cut and snapshots sent; in some profiles whole disks are
lost.

Left out: disks that lose a part of what was synced, or hand back other bytes (the server's checksums are for that), nodes
that lie, and names that change; tests/raft/amnesia.py adds nodes that get older copies of their disks back.

`python -m raft.simulator` plays runs. Nothing here looks at a real clock or starts a thread, and chance is handed in.
"""
