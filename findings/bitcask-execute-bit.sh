#!/usr/bin/env bash
# What: Debian's erlang-bitcask 2.1.0-1 (basho/bitcask 2.1.0, on erlang-base of Debian 12).
#
# `chmod -R 755` on a Bitcask directory, or a copy of it from a file system without modes, ends in the loss of all data:
# the next opening for writing deletes every data file and every hint, without an error. An opening for reading only
# finds an empty store, and leaves the files.
#
# Why: a merge marks the files that it has replaced by the execute bit for others, so that they are deleted even if the
# program ends first; and every file that has the bit is taken for one of those.
#
# Seen:
#   4 data files, 20 keys
#   after chmod -R 755: 4 data files
#   opened for reading only: 0 keys, 4 data files
#   opened for writing: 0 keys, 0 data files
set -euo pipefail

package=erlang-bitcask version=2.1.0-1
if [ "$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null || true)" != "$version" ]; then
    apt-get install -y -q --no-install-recommends "$package=$version" >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/bitcask.escript" <<'ERLANG'
#!/usr/bin/env escript
main([How, Dir]) ->
    error_logger:tty(false),
    {ok, _} = application:ensure_all_started(bitcask),
    Options = case How of "reading" -> []; _ -> [read_write, {max_file_size, 100}] end,
    Store = bitcask:open(Dir, Options),
    [ok = bitcask:put(Store, <<N:8>>, <<"value">>) || How =:= "filling", N <- lists:seq(1, 20)],
    io:format("~p keys~n", [length(bitcask:list_keys(Store))]),
    bitcask:close(Store).
ERLANG

look() {
    escript "$work/bitcask.escript" "$1" "$work/store"
}
files() {
    find "$work/store" -name '*.bitcask.data' | wc -l
}
filled=$(look filling) before=$(files)
echo "$before data files, $filled"
chmod -R 755 "$work/store"
echo "after chmod -R 755: $(files) data files"
read_only=$(look reading) between=$(files)
echo "opened for reading only: $read_only, $between data files"
written=$(look writing) after=$(files)
echo "opened for writing: $written, $after data files"
[ "$filled" = "20 keys" ] && [ "$before" -gt 1 ]
[ "$read_only" = "0 keys" ] && [ "$between" = "$before" ]
[ "$written" = "0 keys" ] && [ "$after" = 0 ]
