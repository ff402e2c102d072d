----------------------------- MODULE Freshness -----------------------------
(***************************************************************************)
(* The mail protocol between N clients and an enclave whose only memory is *)
(* a log that an untrusted host keeps: may this mail be executed?  The     *)
(* enclave's side follows pmap/freshness.py rule by rule, the client's     *)
(* side follows client/; model/README.md lists which invariant stands for  *)
(* which promise, and what is left out.                                    *)
(*                                                                         *)
(* Abstractions.                                                           *)
(*  - An enclave's state IS its history of operations: stream and client   *)
(*    entries are folds over it, and to restore a state is to restore a    *)
(*    prefix of a history.                                                 *)
(*  - A signed checkpoint is <<size, epoch>>, where the epoch is that of   *)
(*    the incarnation which wrote record number `size`.  An incarnation    *)
(*    writes each number once and each record names the one before it by   *)
(*    hash, so this pair identifies the whole prefix (checked:             *)
(*    RootsIdentifyHistories).  <<0, 0>> is "no evidence".                 *)
(*  - Encryption and signatures are perfect: a message is read only by its *)
(*    recipient and cannot be made by anybody else.  The host may deliver  *)
(*    any message that was ever sent, any number of times, in any order,   *)
(*    or never; messages are sets that only grow.                          *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Clients,
    Topics,      \* a stream is a pair of client and topic
    MaxMails,    \* sequence numbers 0 .. MaxMails - 1 on each stream
    MaxHellos,   \* hellos that a client says without being forced to
    MaxEpochs,   \* incarnations of the enclave
    MaxBatch,    \* operations in one commit
    HonestHost,  \* FALSE: the host restores, clones, replays, drops, delays as it likes
    Lossy,       \* (honest host) replies get lost: needed for liveness only
    Inboxes      \* each executed mail makes the enclave mail the other clients on its own

(* Switches.  Each is TRUE in the protocol; a mutant sets one to FALSE.    *)
CONSTANTS
    EpochBinding,        \* a mail is executed only in the session, hence the epoch, that it was sealed for
    StreamEvidence,      \* rule 1
    HighestEvidence,     \* rule 2
    Fencing,             \* RECOVER of a mail that was not executed makes sure that it never will be
    PersistFirst,        \* an honest host lets no reply leave before its record is stored
    RecoverTellsOnly,    \* the answer to RECOVER carries the evidence of the mail's own reply, and changes nothing
    StickyAlarm,         \* after an alarm nothing is executed in this history
    HighestGrowsAtHello, \* rule 2's "not below what was shown before" concerns hellos, not mails
    HelloIsBarrier,      \* once a hello is sealed, replies under earlier sessions are no evidence any more
    RefusalKeepsPending  \* a refusal says nothing about other copies of the mail: its outcome stays open

VARIABLES
    epoch,    \* incarnations so far: 1 .. epoch
    up,       \* (honest host) whether the newest incarnation runs
    hist,     \* hist[e]: what incarnation e has committed
    turn,     \* turn[e]: what it has done since (the batch under way)
    session,  \* session[e][c]: the number of c's hello whose session is open there, 0 for none
    disk,     \* (honest host) the history that is safely stored
    client,   \* client[c]: what c remembers
    mails,    \* every hello, mail and RECOVER ever sent
    replies,  \* every reply ever sealed
    refused   \* current requests of honest clients that were refused, and why

vars == <<epoch, up, hist, turn, session, disk, client, mails, replies, refused>>

None == <<0, 0>>
NoSession == <<0, 0>>
Max(S) == CHOOSE x \in S : \A y \in S : y <= x

-----------------------------------------------------------------------------
(* Histories.  An operation: n, its commit; ep, who wrote it; k, its kind; c, s, q, its sender, topic and number; b, its
   body; e, h: the evidence that it was accepted with, of the stream and the highest. *)

Size(H) == IF H = <<>> THEN 0 ELSE H[Len(H)].n
Root(H, n) == H[CHOOSE i \in DOMAIN H : H[i].n = n].ep
Last(H) == IF H = <<>> THEN None ELSE <<H[Len(H)].n, H[Len(H)].ep>>
Contains(H, cp) == cp = None \/ (cp[1] <= Size(H) /\ Root(H, cp[1]) = cp[2])
Prefix(H, n) == SelectSeq(H, LAMBDA op : op.n <= n)
Newer(a, b) == IF b[1] > a[1] THEN b ELSE a
Quarantined(G) == \E i \in DOMAIN G : G[i].k = "alarm"

(* The enclave's entry of one stream (pmap/clients.py, StreamState). *)
Stream(G, c, s) ==
    LET I == {i \in DOMAIN G : G[i].k \in {"mail", "fence", "tell"} /\ G[i].c = c /\ G[i].s = s}
    IN  IF I = {} THEN [next |-> 0, acked |-> None, issued |-> None, fenced |-> FALSE, body |-> 0]
        ELSE LET o == G[Max(I)] IN
             [next |-> o.q + 1, acked |-> o.e, issued |-> <<o.n, o.ep>>, body |-> o.b,
              fenced |-> \E i \in I : G[i].q = o.q /\ G[i].k = "fence"]

(* The size of the highest evidence that a client has shown (ClientState.acked). *)
Acked(G, c) ==
    LET I == {i \in DOMAIN G : G[i].c = c}
    IN  IF I = {} THEN 0 ELSE Max({G[i].e[1] : i \in I} \cup {G[i].h[1] : i \in I})

-----------------------------------------------------------------------------
(* The rules of pmap/freshness.py.  H is what is committed, G = H and the batch under way.  "ok" or why not. *)

Judge(H, cp) ==
    IF cp[1] > Size(H) THEN "rollback" ELSE IF ~Contains(H, cp) THEN "fork" ELSE "ok"

RuleHighest(H, G, m) ==
    IF ~HighestEvidence THEN "ok"
    ELSE IF Judge(H, m.h) # "ok" THEN Judge(H, m.h)
    ELSE IF m.h = None /\ Acked(G, m.c) > 0 THEN "stale"
    ELSE IF m.h[1] < Acked(G, m.c) /\ (m.k = "hello" \/ ~HighestGrowsAtHello) THEN "stale"
    ELSE "ok"

RuleStream(H, st, m) ==
    IF ~StreamEvidence \/ m.e \in {st.issued, st.acked} THEN "ok"
    ELSE IF Judge(H, m.e) # "ok" THEN Judge(H, m.e) ELSE "stale"

RuleSequence(st, m) ==
    LET latest == m.e = st.issued \/ ~StreamEvidence IN
    CASE m.q > st.next -> "gap"
      [] m.q < st.next /\ m.q + 1 < st.next -> "replay"
      [] m.q = st.next -> IF ~latest THEN "stale" ELSE IF m.k = "recover" THEN "fence" ELSE "execute"
      [] OTHER -> IF m.k = "recover" THEN IF m.b = st.body THEN "tell" ELSE "stale"
                  ELSE IF (latest /\ StreamEvidence) \/ st.fenced THEN "replay"
                  ELSE IF m.b = st.body THEN "redeliver" ELSE "stale"

(* What is to be done about mail m: a ruling or a refusal. *)
Ruling(H, G, m) ==
    IF StickyAlarm /\ Quarantined(G) THEN "quarantined"
    ELSE LET st == Stream(G, m.c, m.s) IN
         IF RuleHighest(H, G, m) # "ok" THEN RuleHighest(H, G, m)
         ELSE IF RuleStream(H, st, m) # "ok" THEN RuleStream(H, st, m)
         ELSE RuleSequence(st, m)

Rulings == {"execute", "redeliver", "tell", "fence"}

(* What is to be done about a hello, at an incarnation where `number` is the client's open session. *)
RulingOnHello(H, G, m, number) ==
    IF StickyAlarm /\ Quarantined(G) THEN "quarantined"
    ELSE IF m.q = number THEN "replay"
    ELSE IF m.q < number THEN "stale"
    ELSE IF RuleHighest(H, G, m) # "ok" THEN RuleHighest(H, G, m) ELSE "welcome"

-----------------------------------------------------------------------------
(* Messages. *)

Hello(c, n, e, h) == [k |-> "hello", c |-> c, s |-> "", q |-> n, b |-> 0, sess |-> <<e, n>>, e |-> None, h |-> h]
Mail(k, c, s, q, b, sess, e, h) == [k |-> k, c |-> c, s |-> s, q |-> q, b |-> b, sess |-> sess, e |-> e, h |-> h]
Reply(m, out, cp) == [m |-> m, out |-> out, cp |-> cp]
Op(n, ep, k, m) == [n |-> n, ep |-> ep, k |-> k, c |-> m.c, s |-> m.s, q |-> m.q, b |-> m.b, sess |-> m.sess,
                    e |-> m.e, h |-> m.h]
NoMail == [k |-> "alarm", c |-> "", s |-> "", q |-> 0, b |-> 0, sess |-> NoSession, e |-> None, h |-> None]

(* The envelope with mail m that was executed in history G. *)
Executed(G, m) ==
    LET o == G[CHOOSE i \in DOMAIN G : G[i].k = "mail" /\ G[i].c = m.c /\ G[i].s = m.s /\ G[i].q = m.q]
    IN  Mail("mail", o.c, o.s, o.q, o.b, o.sess, o.e, o.h)

(* Where a reply may leave: its commit is made and, with an honest host, stored. *)
Released(r) ==
    IF HonestHost /\ PersistFirst THEN Contains(disk, r.cp)
    ELSE \E e \in 1 .. epoch : Contains(hist[e], r.cp)

-----------------------------------------------------------------------------
(* Clients. *)

Stream0 == [q |-> 0, e |-> None, pend |-> NoSession, rec |-> NoSession]
Client0 == [hellos |-> 0, sess |-> NoSession, open |-> FALSE, h |-> None, st |-> [s \in Topics |-> Stream0]]

Pending(c, s) == client[c].st[s].pend # NoSession

(* An honest host says SESSION_UNKNOWN when it is so; a client that gets no WELCOME says hello anew. *)
MustSayHello(c) ==
    LET cl == client[c] IN
    \/ cl.sess[1] # epoch
    \/ ~cl.open /\ session[epoch][c] = cl.sess[2] /\ ~\E r \in replies : r.m.k = "hello" /\ r.m.c = c /\ r.m.sess = cl.sess

SayHello(c, e) ==
    /\ client[c].hellos < MaxHellos \/ (HonestHost /\ MustSayHello(c))
    /\ HonestHost => up /\ e = epoch
    /\ LET n == client[c].hellos + 1 IN
       /\ client' = [client EXCEPT ![c].hellos = n, ![c].sess = <<e, n>>, ![c].open = FALSE]
       /\ mails' = mails \cup {Hello(c, n, e, client[c].h)}
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, replies, refused>>

Send(c, s) ==
    LET cl == client[c]  st == cl.st[s] IN
    /\ cl.open /\ ~Pending(c, s) /\ st.q < MaxMails
    /\ client' = [client EXCEPT ![c].st[s].pend = cl.sess]
    /\ mails' = mails \cup {Mail("mail", c, s, st.q, 0, cl.sess, st.e, cl.h)}
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, replies, refused>>

(* In a new session always, before anything else on the stream; in the same one if no answer comes. *)
Recover(c, s) ==
    LET cl == client[c]  st == cl.st[s] IN
    /\ cl.open /\ Pending(c, s) /\ st.rec # cl.sess
    /\ client' = [client EXCEPT ![c].st[s].rec = cl.sess]
    /\ mails' = mails \cup {Mail("recover", c, s, st.q, 0, cl.sess, st.e, cl.h)}
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, replies, refused>>

AcceptWelcome(c, r) ==
    LET cl == client[c] IN
    /\ r.out = "welcome" /\ r.m.c = c /\ r.m.sess = cl.sess /\ ~cl.open /\ Released(r)
    /\ client' = [client EXCEPT ![c].open = TRUE, ![c].h = Newer(@, r.cp)]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, replies, refused>>

(* The reply answers the mail that is pending or its RECOVER, and is newer than the stream's evidence. *)
Answers(c, s, r) ==
    LET st == client[c].st[s] IN
    /\ Pending(c, s) /\ r.m.c = c /\ r.m.s = s /\ r.m.q = st.q
    /\ r.m.sess = IF r.m.k = "recover" THEN st.rec ELSE st.pend
    /\ HelloIsBarrier => r.m.sess = client[c].sess

AcceptReply(c, s, r) ==
    /\ r.out \in {"executed", "recovered", "fenced"} /\ Answers(c, s, r) /\ Released(r)
    /\ r.cp[1] > client[c].st[s].e[1]
    /\ client' = [client EXCEPT ![c].h = Newer(@, r.cp),
                                ![c].st[s] = [q |-> @.q + 1, e |-> r.cp, pend |-> NoSession, rec |-> NoSession]]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, replies, refused>>

AcceptInbox(c, r) ==
    /\ r.out = "inbox" /\ r.m.c = c /\ Released(r)
    /\ IF HelloIsBarrier THEN r.m.sess = client[c].sess ELSE r.m.sess # NoSession
    /\ r.cp[1] > client[c].h[1]
    /\ client' = [client EXCEPT ![c].h = r.cp]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, replies, refused>>

(* Mutants only: without a fence, or with refusals taken for final, the number is used again. *)
GiveUp(c, s, r) ==
    /\ \/ ~Fencing /\ r.out = "unexecuted"
       \/ ~RefusalKeepsPending /\ r.out = "refused"
    /\ Answers(c, s, r)
    /\ client' = [client EXCEPT ![c].st[s].pend = NoSession, ![c].st[s].rec = NoSession]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, replies, refused>>

-----------------------------------------------------------------------------
(* The enclave: incarnation e processes m. *)

Running(e) == e \in 1 .. epoch /\ (HonestHost => up /\ e = epoch)

(* What is done at the end of each step of an incarnation: add to the batch under way, or commit at once. *)
Does(e, ops) ==
    IF MaxBatch = 1
    THEN hist' = [hist EXCEPT ![e] = @ \o ops] /\ UNCHANGED turn
    ELSE turn' = [turn EXCEPT ![e] = @ \o ops] /\ UNCHANGED hist

Commit(e) ==
    /\ Running(e) /\ turn[e] # <<>>
    /\ hist' = [hist EXCEPT ![e] = @ \o turn[e]]
    /\ turn' = [turn EXCEPT ![e] = <<>>]
    /\ UNCHANGED <<epoch, up, session, disk, client, mails, replies, refused>>

(* Is m what its sender waits for, so that refusing it means something to somebody?  A mail whose RECOVER is under way
   is not: the answer to the RECOVER counts. *)
Current(m) ==
    LET cl == client[m.c] IN
    IF m.k = "hello" THEN m.sess = cl.sess /\ ~cl.open
    ELSE LET st == cl.st[m.s] IN
         /\ Pending(m.c, m.s) /\ m.q = st.q /\ m.sess = cl.sess
         /\ IF m.k = "recover" THEN st.rec = m.sess ELSE st.rec # m.sess /\ st.pend = m.sess

Refuse(e, m, why) ==
    /\ Does(e, IF why \in {"rollback", "fork"} THEN <<Op(Size(hist[e]) + 1, e, "alarm", NoMail)>> ELSE <<>>)
    /\ refused' = IF HonestHost /\ Current(m) /\ ~(m.k = "hello" /\ why = "replay") THEN refused \cup {<<m, why>>} ELSE refused
    /\ replies' = IF RefusalKeepsPending THEN replies ELSE replies \cup {Reply(m, "refused", None)}
    /\ UNCHANGED <<epoch, up, session, disk, client, mails>>

ProcessHello(e, m, lost) ==
    LET H == hist[e]  G == H \o turn[e]  why == RulingOnHello(H, G, m, session[e][m.c]) IN
    /\ Running(e) /\ m.k = "hello" /\ m.sess[1] = e /\ Len(turn[e]) < MaxBatch
    /\ lost => Lossy /\ m.q < MaxHellos
    /\ IF why # "welcome" THEN Refuse(e, m, why)
       ELSE /\ Does(e, <<Op(Size(H) + 1, e, "hello", m)>>)
            /\ session' = [session EXCEPT ![e][m.c] = m.q]
            /\ replies' = IF lost THEN replies ELSE replies \cup {Reply(m, "welcome", <<Size(H) + 1, e>>)}
            /\ UNCHANGED <<epoch, up, disk, client, mails, refused>>

(* The session's key opens the mail; sessions end with the epoch. *)
Opens(e, m) == EpochBinding => m.sess[1] = e /\ session[e][m.c] = m.sess[2]

InboxMails(e, m, cp) ==
    IF ~Inboxes THEN {}
    ELSE {Reply([NoMail EXCEPT !.k = "inbox", !.c = c, !.sess = <<e, session[e][c]>>], "inbox", cp) :
             c \in {c \in Clients \ {m.c} : session[e][c] > 0}}

ProcessMail(e, m, lost) ==
    LET H == hist[e]
        G == H \o turn[e]
        st == Stream(G, m.c, m.s)
        ruling == Ruling(H, G, m)
        now == <<Size(H) + 1, e>>
        out(r) == IF lost THEN {} ELSE {r}
    IN
    /\ Running(e) /\ m.k \in {"mail", "recover"} /\ Opens(e, m) /\ Len(turn[e]) < MaxBatch
    /\ lost => Lossy
    /\ IF ruling \notin Rulings THEN Refuse(e, m, ruling)
       ELSE
       /\ UNCHANGED <<epoch, up, session, disk, client, mails, refused>>
       /\ CASE ruling = "execute" ->
                 /\ Does(e, <<Op(now[1], e, "mail", m)>>)
                 /\ replies' = replies \cup out(Reply(m, "executed", now)) \cup InboxMails(e, m, now)
            [] ruling = "redeliver" ->
                 \* The stored bytes: the reply to the envelope that was executed.
                 /\ Does(e, <<>>)
                 /\ replies' = replies \cup out(Reply(Executed(G, m), "executed", st.issued))
            [] ruling = "fence" ->
                 IF Fencing
                 THEN /\ Does(e, <<Op(now[1], e, "fence", m)>>)
                      /\ replies' = replies \cup out(Reply(m, "fenced", now))
                 ELSE /\ Does(e, <<>>)
                      /\ replies' = replies \cup out(Reply(m, "unexecuted", st.issued))
            [] ruling = "tell" ->
                 LET cp == IF RecoverTellsOnly THEN st.issued ELSE now IN
                 /\ Does(e, IF RecoverTellsOnly THEN <<>> ELSE <<Op(now[1], e, "tell", m)>>)
                 /\ replies' = replies \cup out(Reply(m, IF st.fenced THEN "fenced" ELSE "recovered", cp))

(* Evidence that the table does not remember needs a proof from the host, which may keep it back for a while. *)
Remembered(G, c) ==
    {Stream(G, c, s).issued : s \in Topics} \cup {Stream(G, c, s).acked : s \in Topics} \cup {None}

WithholdProof(e, m) ==
    /\ ~HonestHost /\ ~RefusalKeepsPending /\ Running(e) /\ m.k = "mail" /\ Opens(e, m) /\ Len(turn[e]) < MaxBatch
    /\ ~Quarantined(hist[e] \o turn[e]) /\ m.h \notin Remembered(hist[e] \o turn[e], m.c)
    /\ Refuse(e, m, "unproven")

-----------------------------------------------------------------------------
(* The host. *)

(* Malicious: any state ever seen may be started once more, beside those that run: rollback, fork, clone. *)
Restore(e, n) ==
    /\ ~HonestHost /\ epoch < MaxEpochs
    /\ epoch' = epoch + 1
    /\ hist' = [hist EXCEPT ![epoch + 1] = Prefix(hist[e], n)]
    /\ UNCHANGED <<up, turn, session, disk, client, mails, replies, refused>>

(* Honest: store what was committed; crash at any time; restart on what was stored. *)
Persist ==
    /\ HonestHost /\ up /\ disk # hist[epoch]
    /\ disk' = hist[epoch]
    /\ UNCHANGED <<epoch, up, hist, turn, session, client, mails, replies, refused>>

Crash ==
    /\ HonestHost /\ up /\ epoch < MaxEpochs
    /\ up' = FALSE
    /\ UNCHANGED <<epoch, hist, turn, session, disk, client, mails, replies, refused>>

Restart ==
    /\ HonestHost /\ ~up
    /\ up' = TRUE /\ epoch' = epoch + 1
    /\ hist' = [hist EXCEPT ![epoch + 1] = disk]
    /\ UNCHANGED <<turn, session, disk, client, mails, replies, refused>>

-----------------------------------------------------------------------------
Init ==
    /\ epoch = 1 /\ up = TRUE /\ disk = <<>>
    /\ hist = [e \in 1 .. MaxEpochs |-> <<>>]
    /\ turn = [e \in 1 .. MaxEpochs |-> <<>>]
    /\ session = [e \in 1 .. MaxEpochs |-> [c \in Clients |-> 0]]
    /\ client = [c \in Clients |-> Client0]
    /\ mails = {} /\ replies = {} /\ refused = {}

Accept == \E r \in replies :
    \/ AcceptWelcome(r.m.c, r)
    \/ AcceptInbox(r.m.c, r)
    \/ \E s \in Topics : AcceptReply(r.m.c, s, r)
    \/ \E s \in Topics : GiveUp(r.m.c, s, r)

Process == \E e \in 1 .. MaxEpochs, m \in mails, lost \in {FALSE, TRUE} :
    ProcessHello(e, m, lost) \/ ProcessMail(e, m, lost)

Next ==
    \/ \E c \in Clients, e \in 1 .. epoch : SayHello(c, e)
    \/ \E c \in Clients, s \in Topics : Send(c, s) \/ Recover(c, s)
    \/ Accept
    \/ Process
    \/ \E e \in 1 .. epoch, m \in mails : WithholdProof(e, m)
    \/ \E e \in 1 .. epoch : Commit(e)
    \/ \E e \in 1 .. epoch : \E n \in 0 .. Size(hist[e]) : Restore(e, n)
    \/ Persist \/ Crash \/ Restart

Spec == Init /\ [][Next]_vars

(* An honest host and network, given enough time: what is repeated arrives, what crashed is started again. *)
Fairness ==
    /\ WF_vars(Persist) /\ WF_vars(Restart) /\ \A e \in 1 .. MaxEpochs : WF_vars(Commit(e))
    /\ \A c \in Clients :
        /\ WF_vars(MustSayHello(c) /\ SayHello(c, epoch))
        /\ WF_vars(\E e \in 1 .. epoch, m \in mails : Current(m) /\ m.c = c /\ m.k = "hello" /\ ProcessHello(e, m, FALSE))
        /\ WF_vars(\E r \in replies : AcceptWelcome(c, r))
        /\ \A s \in Topics :
            /\ WF_vars(client[c].st[s].pend # client[c].sess /\ Recover(c, s))
            /\ WF_vars(\E e \in 1 .. epoch, m \in mails : Current(m) /\ m.c = c /\ m.s = s /\ ProcessMail(e, m, FALSE))
            /\ WF_vars(\E r \in replies : AcceptReply(c, s, r))

FairSpec == Spec /\ Fairness

Symmetry == Permutations(Clients) \cup Permutations(Topics)

-----------------------------------------------------------------------------
(* Invariants of the abstraction itself. *)

Epochs == 1 .. epoch

RootsIdentifyHistories ==
    \A e, f \in Epochs : \A n \in 1 .. Size(hist[e]) :
        Contains(hist[f], <<n, Root(hist[e], n)>>) => Prefix(hist[e], n) = Prefix(hist[f], n)

(* Promises against any host. *)

(* A mail is executed only on a history that holds all that its sender held evidence of. *)
RefuseBeforeExecute ==
    \A e \in Epochs : \A i \in DOMAIN hist[e] :
        LET op == hist[e][i] IN
        /\ Contains(hist[e], op.e) /\ Contains(hist[e], op.h)
        /\ op.e[1] < op.n /\ op.h[1] < op.n

(* In one history no mail is executed twice, and none that was fenced. *)
SameMail(a, b) == a.k \in {"mail", "fence"} /\ b.k \in {"mail", "fence"} /\ a.c = b.c /\ a.s = b.s /\ a.q = b.q

NoDoubleExecution ==
    \A e \in Epochs : \A i, j \in DOMAIN hist[e] : i # j => ~SameMail(hist[e][i], hist[e][j])

(* Over all histories there ever were, a mail is executed at one place. *)
ExecutedOnce ==
    \A e, f \in Epochs : \A i \in DOMAIN hist[e], j \in DOMAIN hist[f] :
        LET a == hist[e][i]  b == hist[f][j] IN
        (a.k = "mail" /\ b.k = "mail" /\ SameMail(a, b)) => (a.n = b.n /\ a.ep = b.ep)

(* Everything that one client accepted lies in one history: its view. *)
OneView ==
    \A c \in Clients : \E e \in Epochs :
        /\ Contains(hist[e], client[c].h)
        /\ \A s \in Topics : Contains(hist[e], client[c].st[s].e) /\ client[c].st[s].e[1] <= client[c].h[1]

(* Fork-linearizability, no-join: an operation in two clients' views has the same operations before it in both. *)
NoForkJoin ==
    \A c, d \in Clients : \A e, f \in Epochs :
        (Contains(hist[e], client[c].h) /\ Contains(hist[f], client[d].h)) =>
            \A i \in DOMAIN hist[e], j \in DOMAIN hist[f] :
                LET a == hist[e][i]  b == hist[f][j] IN
                (/\ a.n <= client[c].h[1] /\ b.n <= client[d].h[1]
                 /\ a.k = "mail" /\ b.k = "mail" /\ SameMail(a, b)) => (a.n = b.n /\ a.ep = b.ep)

(* Clients whose views have parted never again have mails, sent since, in one history. *)
NoMeeting ==
    \A c, d \in Clients :
        (~\E e \in Epochs : Contains(hist[e], client[c].h) /\ Contains(hist[e], client[d].h)) =>
            ~\E e \in Epochs : \E i, j \in DOMAIN hist[e] :
                /\ hist[e][i].c = c /\ hist[e][i].h = client[c].h
                /\ hist[e][j].c = d /\ hist[e][j].h = client[d].h

(* Once a client has proved a rollback or fork, nothing is executed in that history. *)
AlarmIsSticky ==
    \A e \in Epochs : \A i \in DOMAIN hist[e] :
        hist[e][i].k = "alarm" => \A j \in DOMAIN hist[e] : hist[e][j].n > hist[e][i].n => hist[e][j].k = "alarm"

(* Promises that hold as long as the host is honest. *)

NoFalseAlarm == HonestHost => \A e \in Epochs : ~Quarantined(hist[e] \o turn[e])

NoFalseRefusal == HonestHost => refused = {}

AcknowledgedIsPresent == HonestHost =>
    \A c \in Clients :
        /\ Contains(hist[epoch], client[c].h)
        /\ \A s \in Topics : Contains(hist[epoch], client[c].st[s].e)

EveryMailIsResolved == \A c \in Clients, s \in Topics : Pending(c, s) ~> ~Pending(c, s)
=============================================================================
