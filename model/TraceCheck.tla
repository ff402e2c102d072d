----------------------------- MODULE TraceCheck -----------------------------
(***************************************************************************)
(* Is what the real code did a behaviour of Freshness?  Recordings holds   *)
(* traces, each a sequence of events that model/recording.py saw; every    *)
(* event must be a step that the model allows, with the very outcome.      *)
(* TLC finds a deadlock where one is not.  On the way the model's          *)
(* invariants are checked in every state.                                  *)
(***************************************************************************)
EXTENDS Freshness, Recordings

VARIABLES
    trace, \* which one
    line,  \* the event that comes next
    told   \* answers to RECOVERs that told: they may arrive later than at once, as they do in Freshness

Said(m) == mails' = mails \cup {m}
NothingElse == UNCHANGED <<epoch, up, hist, turn, session, disk, client, mails, left, refused, told>>

(* What the enclave did about m, by its own account: `out` is what it answered, `cp` the checkpoint in its reply. *)
Refused(e, m, out, why) ==
    /\ out = why \/ (why = "quarantined" /\ out \in {"rollback", "fork"})
    /\ IF why \in {"rollback", "fork"} \/ (Current(m) /\ why \in Blame /\ ~(m.k = "hello" /\ why = "replay"))
       THEN Refuse(e, m, why)
       ELSE UNCHANGED <<epoch, up, hist, turn, session, disk, client, mails, left, refused>>

(* Signed evidence of a size whose root the enclave does not remember: the one verdict that depends on its memory. *)
MayBeUnproven(e, m) ==
    \E cp \in {m.e, m.h} : cp # None /\ cp[1] <= Size(hist[e])

Delivered(e, m, out, cp) ==
    /\ m \in mails
    /\ IF m.k = "hello" /\ m.sess[1] # e \/ m.k # "hello" /\ ~Opens(e, m)
       THEN out = "unknown" /\ NothingElse
       ELSE IF out = "unproven"
       THEN MayBeUnproven(e, m) /\ NothingElse
       ELSE IF m.k = "hello"
       THEN \E why \in {RulingOnHello(hist[e], All(e), session[e][m.c], m)} :
            IF why = "welcome"
            THEN out = why /\ cp = <<Size(hist[e]) + 1, e>> /\ Do(e, "hello", m) /\ UNCHANGED told
            ELSE Refused(e, m, out, why) /\ UNCHANGED told
       ELSE \E st \in {Stream(All(e), m.c, m.s)} : \E ruling \in {Ruling(hist[e], All(e), st, m)} :
            CASE ruling = "execute" ->
                    out = "executed" /\ cp = <<Size(hist[e]) + 1, e>> /\ Do(e, "mail", m) /\ UNCHANGED told
              [] ruling = "fence" ->
                    out = "fenced" /\ cp = <<Size(hist[e]) + 1, e>> /\ Do(e, "fence", m) /\ UNCHANGED told
              [] ruling = "tell" ->
                    /\ out = (IF st.fenced THEN "fenced" ELSE "recovered") /\ cp = st.issued
                    /\ told' = told \cup {<<m, cp>>}
                    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, client, mails, left, refused>>
              [] ruling = "redeliver" -> out = "executed" /\ cp = st.issued /\ NothingElse
              [] OTHER -> Refused(e, m, out, ruling) /\ UNCHANGED told

AcceptTold(c, s) == \E answer \in told :
    LET m == answer[1]  cp == answer[2] IN
    /\ m.c = c /\ m.s = s /\ Answers(c, s, m.q, m.sess, "recover") /\ cp[1] > client[c].st[s].e[1]
    /\ client' = [client EXCEPT ![c].h = Newer(@, cp), ![c].st[s] = Done(@, cp)]
    /\ UNCHANGED <<epoch, up, hist, turn, session, disk, mails, left, refused>>

Committed(e, n) ==
    IF turn[e] = <<>> THEN n = 0 /\ UNCHANGED <<epoch, up, hist, turn, session, disk, client, mails, left, refused>>
    ELSE n = Size(hist[e]) + 1 /\ Commit(e)

Event(v) ==
    CASE v.a = "deliver" -> Delivered(v.e, v.m, v.out, v.cp)
      [] v.a = "commit"  -> Committed(v.e, v.n) /\ UNCHANGED told
      [] v.a = "restore" -> Restore(v.e, v.n) /\ UNCHANGED told
      [] v.a = "hello"   -> SayHello(v.c, v.e) /\ Said(v.m) /\ UNCHANGED told
      [] v.a = "send"    -> Send(v.c, v.s) /\ Said(v.m) /\ UNCHANGED told
      [] v.a = "reseal"  -> Reseal(v.c, v.s) /\ Said(v.m) /\ UNCHANGED told
      [] v.a = "recover" -> Recover(v.c, v.s) /\ Said(v.m) /\ UNCHANGED told
      [] v.a = "welcome" -> AcceptWelcome(v.c) /\ client'[v.c].sess = v.sess /\ client'[v.c].h = v.h /\ UNCHANGED told
      [] v.a = "accept"  -> /\ AcceptReply(v.c, v.s) \/ AcceptTold(v.c, v.s)
                            /\ client'[v.c].st[v.s].e = v.cp /\ client'[v.c].h = v.h /\ UNCHANGED told
      [] v.a = "inbox"   -> AcceptInbox(v.c) /\ client'[v.c].h = v.h /\ UNCHANGED told
      \* A client that keeps no rules: any mail that its keys and evidence let it make.
      [] v.a = "forge"   -> Said(v.m) /\ UNCHANGED <<epoch, up, hist, turn, session, disk, client, left, refused, told>>

TraceInit == Init /\ trace \in DOMAIN Traces /\ line = 1 /\ told = {}

TraceNext ==
    \/ line <= Len(Traces[trace]) /\ Event(Traces[trace][line]) /\ line' = line + 1 /\ UNCHANGED trace
    \/ line > Len(Traces[trace]) /\ UNCHANGED <<vars, trace, line, told>>

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, trace, line, told>>
=============================================================================
