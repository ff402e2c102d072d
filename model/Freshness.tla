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
(*    entries and open sessions are folds over it, and to restore a state  *)
(*    is to restore a prefix of a history.                                 *)
(*  - A signed checkpoint is <<size, epoch>>, where the epoch is that of   *)
(*    the incarnation which wrote record number `size`.  An incarnation    *)
(*    writes each number once and each record names the one before it by   *)
(*    hash, so this pair identifies the whole prefix (checked:             *)
(*    RootsIdentifyHistories).  <<0, 0>> is "no evidence".                 *)
(*  - Encryption and signatures are perfect: a message is read only by its *)
(*    recipient and cannot be made by anybody else.  Mails are a set that  *)
(*    only grows: the host, or the network, delivers any of them, any      *)
(*    number of times, in any order, or never.                             *)
(*  - Replies need no set of their own.  An operation in a history is also *)
(*    the reply to it, to be delivered at any time from then on, or never. *)
(*    What changes nothing (redelivery, telling, most refusals) can be     *)
(*    asked for again at any time, so its answer arrives at once or never. *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Clients,
    Topics,      \* a stream is a pair of client and topic
    MaxMails,    \* mails sent, by all clients together
    MaxHellos,   \* hellos said, by all clients together (an honest host may force more)
    MaxEpochs,   \* incarnations of the enclave
    MaxBatch,    \* operations in one commit
    HonestHost,  \* FALSE: the host restores, clones, replays, drops, delays as it likes
    Inboxes      \* each executed mail makes the enclave mail the other clients on its own

(* Switches.  Each is TRUE in the protocol; a mutant sets one to FALSE. *)
CONSTANTS
    EpochBinding,        \* a mail is executed only in the session, hence the epoch, that it was sealed for
    StreamEvidence,      \* rule 1
    HighestEvidence,     \* rule 2
    Fencing,             \* RECOVER of a mail that was not executed makes sure that it never will be
    PersistFirst,        \* an honest host lets no reply leave before its record is stored
    RecoverTellsOnly,    \* the answer to RECOVER carries the evidence of the mail's own reply, and changes nothing
    StickyAlarm,         \* after an alarm nothing is executed in this history
    HighestGrowsAtHello, \* rule 2's "not below what was shown before" concerns hellos, not mails
    SessionSupersedes,   \* once a session is open, what was said under earlier ones is no evidence any more
    WelcomeIsCurrent,    \* a welcome counts only if its hello showed the highest evidence that the client has by now
    RefusalKeepsPending  \* a refusal says nothing about other copies of the mail: its outcome stays open

VARIABLES
    epoch,    \* incarnations so far: 1 .. epoch
    up,       \* (honest host) whether the newest incarnation runs
    hist,     \* hist[e]: what incarnation e has committed
    turn,     \* turn[e]: what it has done since (the batch under way)
    session,  \* session[e][c]: the number of c's hello whose session is open at e, 0 for none (in memory only)
    disk,     \* (honest host) the history that is safely stored
    client,   \* client[c]: what c remembers
    mails,    \* every hello, mail and RECOVER ever sent
    left,     \* left.mails, left.hellos: how many may still be sent and said
    refused   \* requests that their senders still wait for and that were refused: their kind, and why

vars == <<epoch, up, hist, turn, session, disk, client, mails, left, refused>>

None == <<0, 0>>
NoSession == <<0, 0>>
Max(S) == CHOOSE x \in S : \A y \in S : y <= x
Epochs == 1 .. epoch

-----------------------------------------------------------------------------
(* Histories.  An operation: n, its commit; ep, who wrote it; k, its kind ("hello", "mail", "fence", "alarm"; in mutants
   also "tell"); c, s, q, b, its sender, topic, number and body; sess, the session; e, h, the evidence that it was
   accepted with: of the stream, and the highest. *)

At(op) == <<op.n, op.ep>>
Size(H) == IF H = <<>> THEN 0 ELSE H[Len(H)].n
Root(H, n) == H[CHOOSE i \in DOMAIN H : H[i].n = n].ep
Contains(H, cp) == cp = None \/ (cp[1] <= Size(H) /\ Root(H, cp[1]) = cp[2])
Prefix(H, n) == SelectSeq(H, LAMBDA op : op.n <= n)
Newer(a, b) == IF b[1] > a[1] THEN b ELSE a
Quarantined(G) == \E i \in DOMAIN G : G[i].k = "alarm"

(* The enclave's entry of one stream (pmap/clients.py, StreamState). *)
Stream(G, c, s) ==
    LET I == {i \in DOMAIN G : G[i].s = s /\ G[i].c = c} \* a hello's topic is ""
    IN  IF I = {} THEN [next |-> 0, acked |-> None, issued |-> None, fenced |-> FALSE, body |-> 0]
        ELSE LET o == G[Max(I)] IN
             [next |-> o.q + 1, acked |-> o.e, issued |-> At(o), body |-> o.b,
              fenced |-> \E i \in I : G[i].q = o.q /\ G[i].k = "fence"]

(* The size of the highest evidence that a client has shown (ClientState.acked). *)
Acked(G, c) == Max({0} \cup {Newer(G[i].e, G[i].h)[1] : i \in {i \in DOMAIN G : G[i].c = c}})

-----------------------------------------------------------------------------
(* The rules of pmap/freshness.py: a ruling, or why not.  H is what is committed, G is H and the batch under way. *)

(* Signed evidence that is not in this history. *)
Judge(H, cp) == IF cp[1] > Size(H) THEN "rollback" ELSE "fork"

RuleHighest(H, G, m) ==
    IF ~HighestEvidence THEN "ok"
    ELSE IF ~Contains(H, m.h) THEN Judge(H, m.h)
    ELSE IF m.h = None /\ Acked(G, m.c) > 0 THEN "stale"
    ELSE IF (m.k = "hello" \/ ~HighestGrowsAtHello) /\ m.h[1] < Acked(G, m.c) THEN "stale"
    ELSE "ok"

RuleStream(H, st, m) ==
    IF ~StreamEvidence \/ m.e = st.issued \/ m.e = st.acked THEN "ok"
    ELSE IF ~Contains(H, m.e) THEN Judge(H, m.e) ELSE "stale"

RuleSequence(st, m) ==
    LET latest == m.e = st.issued \/ ~StreamEvidence IN
    CASE m.q > st.next -> "gap"
      [] m.q + 1 < st.next -> "replay"
      [] m.q = st.next -> IF ~latest THEN "stale" ELSE IF m.k = "recover" THEN "fence" ELSE "execute"
      [] OTHER -> IF m.k = "recover" THEN IF m.b = st.body THEN "tell" ELSE "stale"
                  ELSE IF (latest /\ StreamEvidence) \/ st.fenced THEN "replay"
                  ELSE IF m.b = st.body THEN "redeliver" ELSE "stale"

Ruling(H, G, st, m) ==
    IF StickyAlarm /\ Quarantined(G) THEN "quarantined"
    ELSE LET highest == RuleHighest(H, G, m)  evidence == RuleStream(H, st, m) IN
         IF highest # "ok" THEN highest
         ELSE IF evidence # "ok" THEN evidence
         ELSE RuleSequence(st, m)

RulingOnHello(H, G, number, m) ==
    IF StickyAlarm /\ Quarantined(G) THEN "quarantined"
    ELSE IF m.q = number THEN "replay"
    ELSE IF m.q < number THEN "stale"
    ELSE LET highest == RuleHighest(H, G, m) IN IF highest # "ok" THEN highest ELSE "welcome"

-----------------------------------------------------------------------------
(* Messages and operations. *)

Mail(k, c, s, q, b, sess, e, h) == [k |-> k, c |-> c, s |-> s, q |-> q, b |-> b, sess |-> sess, e |-> e, h |-> h]
Hello(c, n, e, h) == Mail("hello", c, "", n, 0, <<e, n>>, None, h)
NoMail == Mail("alarm", "", "", 0, 0, NoSession, None, None)
Op(n, ep, k, m) ==
    [n |-> n, ep |-> ep, k |-> k, c |-> m.c, s |-> m.s, q |-> m.q, b |-> m.b, sess |-> m.sess, e |-> m.e, h |-> m.h]

(* A reply may leave once its operation is committed and, with an honest host, stored. *)
Leaves(cp) == (HonestHost /\ PersistFirst) => Contains(disk, cp)

-----------------------------------------------------------------------------
(* Clients. *)

Stream0 == [q |-> 0, e |-> None, pend |-> NoSession, rec |-> NoSession]
Client0 == [hellos |-> 0, sess |-> NoSession, greet |-> NoSession, h |-> None, st |-> [s \in Topics |-> Stream0]]
Done(st, cp) == [q |-> st.q + 1, e |-> cp, pend |-> NoSession, rec |-> NoSession]

Pending(c, s) == client[c].st[s].pend # NoSession

(* An honest host says SESSION_UNKNOWN when it is so.  Evidence accepted since a hello was sealed needs another one. *)
Outdated(c) == \E m \in mails : m.k = "hello" /\ m.c = c /\ m.sess = client[c].greet /\ m.h # client[c].h
MustSayHello(c) ==
    /\ HonestHost /\ (client[c].sess[1] # epoch \/ client[c].sess[2] # session[epoch][c])
    /\ client[c].greet[1] = epoch => Outdated(c)

SayHello(c, e) ==
    /\ left.hellos > 0 \/ MustSayHello(c)
    /\ HonestHost => up /\ e = epoch
    /\ LET n == client[c].hellos + 1 IN
       /\ client' = [client EXCEPT ![c].hellos = n, ![c].greet = <<e, n>>]
       /\ mails' = mails \cup {Hello(c, n, e, client[c].h)}
    /\ left' = IF MustSayHello(c) THEN left ELSE [left EXCEPT !.hellos = @ - 1]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, refused>>

Send(c, s) ==
    LET cl == client[c]  st == cl.st[s] IN
    /\ cl.sess # NoSession /\ ~Pending(c, s) /\ left.mails > 0
    /\ client' = [client EXCEPT ![c].st[s].pend = cl.sess]
    /\ mails' = mails \cup {Mail("mail", c, s, st.q, 0, cl.sess, st.e, cl.h)}
    /\ left' = [left EXCEPT !.mails = @ - 1]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, refused>>

(* The client's answer to a refusal for want of a proof, once it has newer evidence: the same mail under the same number
   in the same session, but in another envelope.  A reply to either is a reply to it. *)
Reseal(c, s) ==
    LET cl == client[c]  st == cl.st[s]  m == Mail("mail", c, s, st.q, 0, cl.sess, st.e, cl.h) IN
    /\ ~HonestHost /\ Pending(c, s) /\ st.pend = cl.sess /\ m \notin mails
    /\ mails' = mails \cup {m}
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, client, left, refused>>

(* In a new session before anything else on the stream; in the same one where no answer comes; again with newer evidence. *)
Recover(c, s) ==
    LET cl == client[c]  st == cl.st[s]  m == Mail("recover", c, s, st.q, 0, cl.sess, st.e, cl.h) IN
    /\ cl.sess # NoSession /\ Pending(c, s) /\ (st.rec # cl.sess \/ (~HonestHost /\ m \notin mails))
    /\ client' = [client EXCEPT ![c].st[s].rec = cl.sess]
    /\ mails' = mails \cup {m}
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, left, refused>>

AcceptWelcome(c) == client[c].greet # NoSession /\ \E e \in Epochs : \E i \in DOMAIN hist[e] : LET o == hist[e][i] IN
    /\ o.ep = e /\ o.k = "hello" /\ o.c = c /\ o.sess = client[c].greet /\ Leaves(At(o))
    /\ WelcomeIsCurrent => o.h = client[c].h
    /\ client' = [client EXCEPT ![c].sess = o.sess, ![c].greet = NoSession, ![c].h = Newer(@, At(o))]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, left, refused>>

(* A reply answers the mail that is pending or its RECOVER; `kind` is what it replies to. *)
Answers(c, s, q, sess, kind) ==
    LET st == client[c].st[s] IN
    /\ Pending(c, s) /\ q = st.q
    /\ sess = IF kind = "recover" THEN st.rec ELSE st.pend
    /\ SessionSupersedes => sess = client[c].sess

AcceptReply(c, s) == Pending(c, s) /\ \E e \in Epochs : \E i \in DOMAIN hist[e] : LET o == hist[e][i] IN
    /\ o.ep = e /\ o.c = c /\ o.s = s /\ Leaves(At(o))
    /\ Answers(c, s, o.q, o.sess, IF o.k = "mail" THEN "mail" ELSE "recover")
    /\ o.n > client[c].st[s].e[1]
    /\ client' = [client EXCEPT ![c].h = Newer(@, At(o)), ![c].st[s] = Done(@, At(o))]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, left, refused>>

(* A mail that the enclave sent on its own, for another client's, under a session that was open then. *)
AcceptInbox(c) == Inboxes /\ \E e \in Epochs : \E i, j \in DOMAIN hist[e] :
    LET welcome == hist[e][i]  o == hist[e][j] IN
    /\ i < j /\ welcome.k = "hello" /\ welcome.c = c /\ welcome.ep = o.ep /\ o.k = "mail" /\ o.c # c /\ Leaves(At(o))
    /\ SessionSupersedes => welcome.sess = client[c].sess
    /\ o.n > client[c].h[1]
    /\ client' = [client EXCEPT ![c].h = At(o)]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, left, refused>>

-----------------------------------------------------------------------------
(* The enclave: incarnation e processes m. *)

Running(e) == e \in Epochs /\ (HonestHost => up /\ e = epoch) /\ Len(turn[e]) < MaxBatch

(* An operation is a commit of its own, or joins the batch under way. *)
Append1(e, op) ==
    IF MaxBatch = 1
    THEN hist' = [hist EXCEPT ![e] = Append(@, op)] /\ UNCHANGED turn
    ELSE turn' = [turn EXCEPT ![e] = Append(@, op)] /\ UNCHANGED hist

Do(e, k, m) ==
    /\ Append1(e, Op(Size(hist[e]) + 1, e, k, m))
    /\ session' = IF k = "hello" THEN [session EXCEPT ![e][m.c] = m.q] ELSE session
    /\ UNCHANGED <<epoch, up, disk, client, mails, left, refused>>

Commit(e) ==
    /\ e \in Epochs /\ turn[e] # <<>> /\ (HonestHost => up /\ e = epoch)
    /\ hist' = [hist EXCEPT ![e] = @ \o turn[e]]
    /\ turn' = [turn EXCEPT ![e] = <<>>]
    /\ UNCHANGED <<epoch, up, session, disk, client, mails, left, refused>>

(* What incarnation e has done so far, committed or not. *)
All(e) == IF turn[e] = <<>> THEN hist[e] ELSE hist[e] \o turn[e]

(* Is m what its sender waits for, so that a refusal means something to somebody?  A mail whose RECOVER is under way is
   not: the answer to the RECOVER counts. *)
Current(m) ==
    LET cl == client[m.c] IN
    IF m.k = "hello" THEN m.sess = cl.greet /\ m.h = cl.h
    ELSE LET st == cl.st[m.s] IN
         /\ Pending(m.c, m.s) /\ m.q = st.q /\ m.sess = cl.sess
         /\ IF m.k = "recover" THEN st.rec = m.sess ELSE st.rec # m.sess /\ st.pend = m.sess

Blame == {"stale", "gap", "replay"} \* the verdicts on a client

Refuse(e, m, why) ==
    /\ HonestHost \/ why \in {"rollback", "fork"} \cup Blame \* nothing else leaves a trace
    /\ IF why \in {"rollback", "fork"}
       THEN Append1(e, Op(Size(hist[e]) + 1, e, "alarm", NoMail))
       ELSE UNCHANGED <<hist, turn>>
    \* A hello that came twice is refused the second time; its sender has the first answer, or says hello anew.
    /\ refused' = IF Current(m) /\ (HonestHost \/ why \in Blame) /\ ~(m.k = "hello" /\ why = "replay")
                  THEN refused \cup {<<m.k, why>>} ELSE refused
    /\ UNCHANGED <<epoch, up, session, disk, client, mails, left>>

(* Mutants only: the client takes this answer for "was not and will not be executed" and uses the number again. *)
GiveUp(m) ==
    /\ Answers(m.c, m.s, m.q, m.sess, m.k)
    /\ client' = [client EXCEPT ![m.c].st[m.s].pend = NoSession, ![m.c].st[m.s].rec = NoSession]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, left, refused>>

ProcessHello(e, m) ==
    /\ m.k = "hello" /\ m.sess[1] = e /\ Running(e)
    /\ \E why \in {RulingOnHello(hist[e], All(e), session[e][m.c], m)} :
        IF why = "welcome" THEN Do(e, "hello", m) ELSE Refuse(e, m, why)

(* The session's key opens the mail; sessions end with the epoch. *)
Opens(e, m) == EpochBinding => (m.sess[1] = e /\ session[e][m.c] = m.sess[2])

(* RECOVER of a mail that was processed: the same answer each time. *)
Tell(e, m, st) ==
    /\ Answers(m.c, m.s, m.q, m.sess, "recover") /\ Leaves(st.issued) /\ Contains(hist[e], st.issued)
    /\ st.issued[1] > client[m.c].st[m.s].e[1]
    /\ client' = [client EXCEPT ![m.c].h = Newer(@, st.issued), ![m.c].st[m.s] = Done(@, st.issued)]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, left, refused>>

ProcessMail(e, m) ==
    /\ m.k \in {"mail", "recover"} /\ Running(e) /\ Opens(e, m)
    /\ \E st \in {Stream(All(e), m.c, m.s)} : \E ruling \in {Ruling(hist[e], All(e), st, m)} :
        CASE ruling = "execute" -> Do(e, "mail", m)
          [] ruling = "fence" -> IF Fencing THEN Do(e, "fence", m) ELSE GiveUp(m)
          [] ruling = "tell" -> IF RecoverTellsOnly THEN Tell(e, m, st) ELSE Do(e, "tell", m)
          [] ruling = "redeliver" -> FALSE \* changes nothing: see AcceptReply
          [] OTHER -> Refuse(e, m, ruling) \/ (~RefusalKeepsPending /\ GiveUp(m))

(* Mutant only.  Evidence that the table does not remember needs a proof from the host, which may keep it back for a
   while: the mail is refused now, and a copy of it executed later. *)
Remembered(G, c) ==
    {Stream(G, c, s).issued : s \in Topics} \cup {Stream(G, c, s).acked : s \in Topics} \cup {None}

WithholdProof(e, m) ==
    /\ ~RefusalKeepsPending /\ ~HonestHost /\ Running(e) /\ m.k = "mail" /\ Opens(e, m)
    /\ m.h \notin Remembered(All(e), m.c)
    /\ GiveUp(m)

-----------------------------------------------------------------------------
(* The host. *)

(* Malicious: any state ever seen may be started once more, beside those that run: rollback, fork, clone. *)
Restore(e, n) ==
    /\ ~HonestHost /\ epoch < MaxEpochs
    /\ epoch' = epoch + 1
    /\ hist' = [hist EXCEPT ![epoch + 1] = Prefix(hist[e], n)]
    /\ UNCHANGED <<up, turn, session, disk, client, mails, left, refused>>

(* Honest: store what was committed; crash at any time; restart on what was stored. *)
Persist ==
    /\ HonestHost /\ up /\ disk # hist[epoch]
    /\ disk' = hist[epoch]
    /\ UNCHANGED <<epoch, up, hist, turn, session, client, mails, left, refused>>

Crash ==
    /\ HonestHost /\ up /\ epoch < MaxEpochs
    /\ up' = FALSE
    /\ UNCHANGED <<epoch, hist, turn, session, disk, client, mails, left, refused>>

Restart ==
    /\ HonestHost /\ ~up
    /\ up' = TRUE /\ epoch' = epoch + 1
    /\ hist' = [hist EXCEPT ![epoch + 1] = disk]
    /\ UNCHANGED <<turn, session, disk, client, mails, left, refused>>

-----------------------------------------------------------------------------
Init ==
    /\ epoch = 1 /\ up = TRUE /\ disk = <<>>
    /\ hist = [e \in 1 .. MaxEpochs |-> <<>>]
    /\ turn = [e \in 1 .. MaxEpochs |-> <<>>]
    /\ session = [e \in 1 .. MaxEpochs |-> [c \in Clients |-> 0]]
    /\ client = [c \in Clients |-> Client0]
    /\ mails = {} /\ refused = {} /\ left = [mails |-> MaxMails, hellos |-> MaxHellos]

Next ==
    \/ \E c \in Clients, e \in Epochs : SayHello(c, e)
    \/ \E c \in Clients : AcceptWelcome(c)
    \/ \E c \in Clients : AcceptInbox(c)
    \/ \E c \in Clients, s \in Topics : Send(c, s)
    \/ \E c \in Clients, s \in Topics : Reseal(c, s)
    \/ \E c \in Clients, s \in Topics : Recover(c, s)
    \/ \E c \in Clients, s \in Topics : AcceptReply(c, s)
    \/ \E e \in Epochs, m \in mails : ProcessHello(e, m)
    \/ \E e \in Epochs, m \in mails : ProcessMail(e, m)
    \/ \E e \in Epochs, m \in mails : WithholdProof(e, m)
    \/ \E e \in Epochs : Commit(e)
    \/ \E e \in Epochs : \E n \in 0 .. Size(hist[e]) : Restore(e, n)
    \/ Persist
    \/ Crash
    \/ Restart

Spec == Init /\ [][Next]_vars

(* An honest host and network, given enough time: what is sent again and again arrives, what crashed is restarted. *)
Fairness ==
    /\ WF_vars(Persist) /\ WF_vars(Restart) /\ \A e \in 1 .. MaxEpochs : WF_vars(Commit(e))
    /\ \A c \in Clients :
        /\ WF_vars(MustSayHello(c) /\ SayHello(c, epoch))
        /\ WF_vars(\E m \in mails : Current(m) /\ m.c = c /\ ProcessHello(epoch, m))
        /\ WF_vars(AcceptWelcome(c))
        /\ \A s \in Topics :
            /\ WF_vars(client[c].st[s].pend # client[c].sess /\ Recover(c, s))
            /\ WF_vars(\E m \in mails : Current(m) /\ m.c = c /\ m.s = s /\ ProcessMail(epoch, m))
            /\ WF_vars(AcceptReply(c, s))

FairSpec == Spec /\ Fairness

Symmetry == Permutations(Clients) \cup Permutations(Topics)

-----------------------------------------------------------------------------
(* The abstraction itself. *)

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
    \A e \in Epochs : \A i, j \in DOMAIN hist[e] : i < j => ~SameMail(hist[e][i], hist[e][j])

(* Over all histories there ever were, a mail is executed at one place. *)
ExecutedOnce ==
    \A e, f \in Epochs : e < f => \A i \in DOMAIN hist[e], j \in DOMAIN hist[f] :
        LET a == hist[e][i]  b == hist[f][j] IN
        (a.k = "mail" /\ b.k = "mail" /\ SameMail(a, b)) => At(a) = At(b)

(* Everything that one client accepted lies in one history: its view. *)
OneView ==
    \A c \in Clients : \E e \in Epochs :
        /\ Contains(hist[e], client[c].h)
        /\ \A s \in Topics : Contains(hist[e], client[c].st[s].e) /\ client[c].st[s].e[1] <= client[c].h[1]

(* Fork-linearizability, no join: an operation in two clients' views has the same operations before it in both. *)
NoForkJoin ==
    \A c, d \in Clients : \A e, f \in Epochs :
        (e # f /\ Contains(hist[e], client[c].h) /\ Contains(hist[f], client[d].h)) =>
            \A i \in DOMAIN hist[e], j \in DOMAIN hist[f] :
                LET a == hist[e][i]  b == hist[f][j] IN
                (/\ a.n <= client[c].h[1] /\ b.n <= client[d].h[1]
                 /\ a.k = "mail" /\ b.k = "mail" /\ SameMail(a, b)) => At(a) = At(b)

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

(* Whatever the host does, a client that keeps its state is never told that the fault is its own. *)
NeverBlamed == \A r \in refused : r[2] \notin Blame

(* Promises that hold as long as the host is honest. *)

NoFalseAlarm == HonestHost => \A e \in Epochs : ~Quarantined(All(e))

NoFalseRefusal == HonestHost => refused = {}

AcknowledgedIsPresent == HonestHost =>
    \A c \in Clients :
        /\ Contains(hist[epoch], client[c].h)
        /\ \A s \in Topics : Contains(hist[epoch], client[c].st[s].e)

EveryMailIsResolved == \A c \in Clients, s \in Topics : Pending(c, s) ~> ~Pending(c, s)
=============================================================================
