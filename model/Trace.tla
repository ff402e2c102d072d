------------------------------- MODULE Trace -------------------------------
(* Trace validation: events of the real code, recorded by tests/formal/recording.py, are replayed as steps of the model.
   Each event names the step and what came of it; a trace that the model does not allow ends in a deadlock, whose last
   state says which event it is. The invariants are checked on the way. *)
EXTENDS Protocol, TraceData

VARIABLES trace, at

Init ==
  /\ ProtocolInit
  /\ stored = 0 /\ durable = <<>>
  /\ trace \in DOMAIN Traces
  /\ at = 1

Event == Traces[trace][at]

RequestIn(ev) ==
  [kind |-> ev.kind, c |-> ev.c, t |-> IF ev.kind = "hello" THEN 0 ELSE ev.t, s |-> ev.s, e |-> ev.e, n |-> ev.n,
   m |-> ev.m, shown |-> ev.shown, hi |-> ev.hi]

\* The rulings that change nothing are events too: the model must have ruled the same.
Handled(ev) ==
  LET r == RequestIn(ev) ruling == Ruling(heads[ev.at], ev.at, r)
  IN /\ r \in requests
     /\ ev.ruling = ruling
     /\ IF ruling \in Commits THEN Commit(ev.at, KindOfCommit(ruling), r) /\ ev.x = Len(tree') /\ UNCHANGED refused
        ELSE /\ ev.x = 0
             /\ refused' = IF ruling \in {"stale", "gap"} /\ Awaited(r) THEN refused \cup {r} ELSE refused
             /\ UNCHANGED <<tree, heads>>
     /\ UNCHANGED <<requests, clients, durable, stored, seen, outcomes>>

\* The client's state is what the code's client has.
Agrees(ev) ==
  /\ clients'[ev.c].highest = ev.highest
  /\ ev.t # "" => /\ clients'[ev.c].streams[ev.t].next = ev.next
                  /\ clients'[ev.c].streams[ev.t].evidence = ev.evidence

\* The client's other operations may have gone on since the enclave answered, and the enclave with them.
ToldBefore(c, t) ==
  LET asked == clients[c].streams[t].asked
  IN asked.m # 0 /\ \E h \in Path(heads[asked.e]) : ToldAt(c, t, h)

Step(ev) ==
  CASE ev.do = "start" -> ev.e = Len(heads) + 1 /\ ev.x \in Nodes /\ Start(ev.x)
    [] ev.do = "call" -> Call(ev.at) /\ ev.x = Len(tree')
    [] ev.do = "hello" -> SayHello(ev.c, ev.e) /\ UNCHANGED heads /\ RequestIn(ev) \in requests'
    [] ev.do = "send" -> Send(ev.c, ev.t, ev.m) /\ RequestIn(ev) = RequestOf("mail", ev.c, ev.t, clients'[ev.c].streams[ev.t].pending)
    [] ev.do = "ask" -> Ask(ev.c, ev.t) /\ RequestIn(ev) = RequestOf("recover", ev.c, ev.t, clients'[ev.c].streams[ev.t].asked)
    [] ev.do = "handle" -> Handled(ev)
    [] ev.do = "welcome" -> Welcomed(ev.c, ev.x) /\ Agrees(ev)
    [] ev.do = "settle" -> (Accept(ev.c, ev.t, ev.x) \/ Fenced(ev.c, ev.t, ev.x) \/ ToldBefore(ev.c, ev.t)) /\ Agrees(ev)
    [] ev.do = "drop" -> Drop(ev.c, ev.t)
    [] ev.do = "compare" -> Compare(ev.c, ev.x) /\ Agrees(ev)
    [] ev.do = "inbox" -> TakeInboxMail(ev.c, ev.x) /\ Agrees(ev)

Next ==
  \/ at <= Len(Traces[trace]) /\ Step(Event) /\ at' = at + 1 /\ UNCHANGED trace
  \/ at > Len(Traces[trace]) /\ UNCHANGED <<vars, trace, at>>

Spec == Init /\ [][Next]_<<vars, trace, at>>

People == 1..TracePeople
=============================================================================
