#!/usr/bin/env bash
# What: Debian's erlang-bitcask 2.1.0-1 (basho/bitcask 2.1.0, on erlang-base of Debian 12).
#
# After its writer was killed, a Bitcask that is opened for reading only (the default of bitcask:open) is empty, although
# every value was synced. It stays so, opening after opening, until somebody opens it for writing; from then on
# everything is there, for readers too.
#
# Why: a reader leaves out the file that bitcask.write.lock names, because a living writer may be in the middle of it. It
# doesn't ask whether that writer lives, and only an opening for writing removes a dead writer's lock. With one file of
# up to 2 GiB for each opening of a writer, the file left out may well be all there is.
#
# Seen:
#   the writer has synced 1000 values, and is killed
#   opened for reading only: key k7 not_found, 0 keys
#   opened for reading only: key k7 not_found, 0 keys
#   opened for writing: key k7 {ok,<<"v">>}, 1000 keys
#   opened for reading only: key k7 {ok,<<"v">>}, 1000 keys
set -euo pipefail

package=erlang-bitcask version=2.1.0-1
if [ "$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null || true)" != "$version" ]; then
    apt-get install -y -q --no-install-recommends "$package=$version" >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/bitcask.escript" <<'ERLANG'
#!/usr/bin/env escript
main(["write", Dir]) ->
    {ok, _} = start(),
    Store = bitcask:open(Dir, [read_write, {sync_strategy, o_sync}]),
    [ok = bitcask:put(Store, <<"k", (integer_to_binary(N))/binary>>, <<"v">>) || N <- lists:seq(1, 1000)],
    ok = bitcask:sync(Store),
    io:format("synced~n"),
    io:get_line("");
main([How, Dir]) ->
    {ok, _} = start(),
    Options = case How of "reading" -> []; "writing" -> [read_write] end,
    Store = bitcask:open(Dir, Options),
    io:format("key k7 ~p, ~p keys~n", [bitcask:get(Store, <<"k7">>), length(bitcask:list_keys(Store))]),
    bitcask:close(Store).

start() ->
    error_logger:tty(false),
    application:ensure_all_started(bitcask).
ERLANG

coproc WRITER { exec escript "$work/bitcask.escript" write "$work/store"; }
writer=$WRITER_PID
read -r synced <&"${WRITER[0]}"
[ "$synced" = synced ]
kill -9 "$writer"
wait "$writer" 2>/dev/null || true
echo "the writer has synced 1000 values, and is killed"

look() {
    escript "$work/bitcask.escript" "$1" "$work/store"
}
one=$(look reading) two=$(look reading) three=$(look writing) four=$(look reading)
echo "opened for reading only: $one"
echo "opened for reading only: $two"
echo "opened for writing: $three"
echo "opened for reading only: $four"
nothing='key k7 not_found, 0 keys' all='key k7 {ok,<<"v">>}, 1000 keys'
[ "$one" = "$nothing" ] && [ "$two" = "$nothing" ] && [ "$three" = "$all" ] && [ "$four" = "$all" ]
