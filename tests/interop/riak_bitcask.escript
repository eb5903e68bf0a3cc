#!/usr/bin/env escript
%% Drives the real Bitcask, one command a line on standard input, one answer a line on standard output.
%%
%%   keys and values are hexadecimal; "-" is the empty one
%%
%%   open DIR SIZE      opens for reading and writing, with max_file_size SIZE
%%   read DIR           opens for reading only
%%   put K V            delete K            get K            what bitcask:put, delete, get do
%%   list               K K K ...           what bitcask:list_keys finds: the keydir
%%   fold               K=V K=V ...         what bitcask:fold finds: every value, read from its file
%%   close
%%   merge DIR          bitcask:merge of all files, and waits until the old ones are deleted
%%   merge DIR F F ...  the same, of these files only
%%   leave DIR          bitcask:merge of all files, and ends the machine before the old ones are deleted
%%   flood N            puts kN, kN+1, ... of growing size until it is killed; a line "put N" for each
%%   quit

main([]) ->
    error_logger:tty(false),
    {ok, _} = application:ensure_all_started(bitcask),
    loop(undefined).

loop(Ref) ->
    case io:get_line("") of
        eof -> ok;
        Line ->
            case string:tokens(string:trim(Line), " ") of
                ["quit"] -> ok;
                Words ->
                    {Answer, Next} = try run(Words, Ref)
                                     catch Class:Reason -> {io_lib:format("~p ~0p", [Class, Reason]), Ref} end,
                    io:format("~s~n", [Answer]),
                    loop(Next)
            end
    end.

run(["open", Dir, Size], _) ->
    opened(bitcask:open(Dir, [read_write, {max_file_size, list_to_integer(Size)}]));
run(["read", Dir], _) ->
    opened(bitcask:open(Dir));
run(["put", K, V], Ref) ->
    {io_lib:format("~0p", [bitcask:put(Ref, bytes(K), bytes(V))]), Ref};
run(["delete", K], Ref) ->
    {io_lib:format("~0p", [bitcask:delete(Ref, bytes(K))]), Ref};
run(["get", K], Ref) ->
    Answer = case bitcask:get(Ref, bytes(K)) of
                 {ok, V} -> "ok " ++ hex(V);
                 Other -> io_lib:format("~0p", [Other])
             end,
    {Answer, Ref};
run(["list"], Ref) ->
    {lists:join(" ", ["keys" | [hex(K) || K <- lists:sort(bitcask:list_keys(Ref))]]), Ref};
run(["fold"], Ref) ->
    Pairs = bitcask:fold(Ref, fun(K, V, Acc) -> [{K, V} | Acc] end, []),
    {lists:join(" ", ["pairs" | [[hex(K), "=", hex(V)] || {K, V} <- lists:sort(Pairs)]]), Ref};
run(["close"], Ref) ->
    {io_lib:format("~0p", [bitcask:close(Ref)]), undefined};
run(["leave", Dir], _) ->
    ok = bitcask:merge(Dir),
    io:format("left~n"),
    erlang:halt(9, [{flush, true}]);
run(["flood", N], Ref) ->
    flood(Ref, list_to_integer(N));
run(["merge", Dir], Ref) ->
    {merged(bitcask:merge(Dir), Dir), Ref};
run(["merge", Dir | Files], Ref) ->
    {merged(bitcask:merge(Dir, [], [filename:join(Dir, F) || F <- Files]), Dir), Ref}.

flood(Ref, N) ->
    ok = bitcask:put(Ref, <<"k", (integer_to_binary(N))/binary>>, binary:copy(<<"v">>, N rem 500)),
    io:format("put ~b~n", [N]),
    flood(Ref, N + 1).

opened({error, Reason}) -> {io_lib:format("error ~0p", [Reason]), undefined};
opened(Ref) -> {"opened", Ref}.

merged(Answer, Dir) ->
    bitcask_merge_delete:testonly__delete_trigger(),
    wait_for_deletes(Dir, 200),
    io_lib:format("~0p", [Answer]).

%% Merged files get a permission bit, and are deleted by a server of their own when nobody folds over them.
wait_for_deletes(_, 0) -> ok;
wait_for_deletes(Dir, Tries) ->
    case bitcask_merge_delete:queue_length() of
        0 -> ok;
        _ -> timer:sleep(10), wait_for_deletes(Dir, Tries - 1)
    end.

bytes("-") -> <<>>;
bytes(Hex) -> << <<(list_to_integer([A, B], 16))>> || [A, B] <- pairs(Hex) >>.

pairs([A, B | Rest]) -> [[A, B] | pairs(Rest)];
pairs([]) -> [].

hex(<<>>) -> "-";
hex(Bin) -> lists:flatten([io_lib:format("~2.16.0b", [B]) || <<B>> <= Bin]).
