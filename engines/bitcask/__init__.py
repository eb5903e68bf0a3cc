"""The Bitcask engine, in Riak's own format. FORMAT.md has the bytes; this is the order in which to read the files.

| module    | purpose                                                                            |
|-----------|------------------------------------------------------------------------------------|
| record    | what a data file consists of: values, tombstones, marks                            |
| place     | where a record lies, and the one way in which it is read back                      |
| segment   | the files: the active one, the sealed ones, when they are removed                  |
| hint      | a file's keys without its values                                                   |
| order     | the keys of a hash in order, for scans                                             |
| keydir    | key → place; the keys in order; what an open snapshot remembers                    |
| scan      | a data file from end to end: what belongs together is whole, or not there          |
| log       | the writing end: what a write appends                                              |
| torn      | where a file stops being whole: a torn end, or damage                              |
| intent    | which files count while a load replaces all of them                                |
| survey    | which files of a directory count                                                   |
| leftovers | files that Riak has marked to be deleted, or that were copied without their modes  |
| recovery  | opening, for writing and for reading only                                          |
| locks     | one store, or one Riak                                                             |
| options   | what a store can be told                                                           |
| core      | what the parts of an open store share; its locks and their order                   |
| snapshot  | reads of one moment                                                                |
| output    | a segment that is written beside the others                                        |
| merge     | getting space back without getting deleted keys back                               |
| policy    | which segments are merged, and when                                                |
| writer    | a batch goes to the log, and then readers see it                                   |
| load      | replacing everything at one moment                                                 |
| repair    | files without their damage                                                         |
| check     | reading everything, and comparing                                                  |
| dump      | files as text                                                                      |
| parts     | what a store is made of, each part replaceable                                     |
| store     | the contract, and reading                                                          |
| fast      | the accelerations; nothing needs them                                              |
"""

from engines.bitcask.store import BitcaskStore

__all__ = ["BitcaskStore"]
