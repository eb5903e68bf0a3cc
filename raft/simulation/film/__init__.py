"""A run as a film: one page of HTML, in which one goes through a run forward and back, and sees other ends of it.

    Cluster ──► recorder.py: moments, messages, states ──► data.py: JSON ──► make.py ──► one page
                    ▲                                         ▲                  ▲
                acting.py: which lines acted            forks.py: other ends   page/: what the page is and does

Reading order: recorder.py, acting.py, data.py, forks.py, make.py; then page/model.js, and page/main.js.

`python -m raft.simulator --seed 7 --html FILE` makes one; so do `metcd trace` and `metcd learn trace --html FILE`.
"""
