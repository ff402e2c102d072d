----------------------------- MODULE Freshness -----------------------------
(* The rules of pmap/freshness.py (docs/spec.md, R-16 and R-19 to R-27), as functions of a history.

   A state is its history. Every commit that any enclave of the store ever made is a node of one tree; a history is
   the path from the root to a node. The Merkle root over records that name the epoch that made them identifies its
   path (SHA-256 has no collisions), so a checkpoint is a node, and an enclave's whole state is a function of the node
   it stands on: what a client's and a stream's entries hold is read off the path. Node 0 stands for "no evidence", a
   position of size 0.

   Weakened names the rules that a mutant leaves out; the true model leaves out none. *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANT Weakened   \* a set of names of rules, each a string that occurs below

VARIABLE tree       \* the nodes, in the order in which they were made: see Genesis

Weak(rule) == rule \in Weakened

(* A node is what its commit says: its kind (genesis, call, hello; exec: EXECUTED, HANDLER_FAILED or HEARTBEAT; fence; alarm),
   the epoch e of the enclave that made it, the envelope r that it answers; and the table of clients and streams as it
   is after it (pmap/clients.py), which is a function of the path and stands here so that nothing is computed twice. *)

Nodes == DOMAIN tree
Path(x) == IF x = 0 THEN {} ELSE tree[x].path
Size(x) == IF x = 0 THEN 0 ELSE tree[x].size
OnPath(x, y) == x = 0 \/ x \in Path(y)
Comparable(x, y) == OnPath(x, y) \/ OnPath(y, x)
Higher(x, y) == IF Size(x) > Size(y) THEN x ELSE y

(* session, epoch: the client's newest session and the epoch that opened it. issued: the last checkpoint given to it,
   acked: the largest that it has shown. Of a stream: the next number; what its last mail was answered with (issued)
   and had shown (acked); that mail, and whether it was fenced. *)
NewStreamEntry == [next |-> 0, issued |-> 0, acked |-> 0, m |-> 0, fenced |-> FALSE]
NewEntry(topics) == [session |-> 0, epoch |-> 0, issued |-> 0, acked |-> 0, streams |-> [t \in topics |-> NewStreamEntry]]

NoRequest == [kind |-> "none", c |-> 0, t |-> 0, s |-> 0, e |-> 0, n |-> 0, m |-> 0, shown |-> 0, hi |-> 0]

Genesis(cs, topics) ==
  [kind |-> "genesis", e |-> 0, r |-> NoRequest, path |-> {1}, size |-> 1, alarm |-> FALSE,
   table |-> [c \in cs |-> NewEntry(topics)]]

\* The node x that epoch e makes of request r, standing on node h.
Made(x, kind, e, h, r) ==
  LET before == tree[h].table[r.c]
      after == CASE kind = "hello" -> [before EXCEPT !.session = r.s, !.epoch = e, !.issued = x, !.acked = Higher(r.hi, @)]
                 [] OTHER -> [before EXCEPT !.issued = x, !.acked = Higher(r.shown, Higher(r.hi, @)),
                                !.streams[r.t] = [next |-> r.n + 1, issued |-> x, acked |-> r.shown, m |-> r.m,
                                                  fenced |-> kind = "fence"]]
  IN [kind |-> kind, e |-> e, r |-> r, path |-> tree[h].path \cup {x}, size |-> tree[h].size + 1,
      alarm |-> tree[h].alarm \/ (kind = "alarm" /\ ~Weak("quarantine is kept")),
      table |-> IF kind \in {"call", "alarm"} THEN tree[h].table ELSE [tree[h].table EXCEPT ![r.c] = after]]

\* The client's present session with epoch e, named by its hello's number; 0: it has none.
Session(h, c, e) == LET entry == tree[h].table[c] IN IF entry.epoch = e THEN entry.session ELSE 0

-----------------------------------------------------------------------------
(* Evidence: R-20 to R-22. "unproven" (R-22 d) is left out: it refuses and changes nothing, as if the host had
   kept the mail back, which it may do anyway. *)

Judge(h, claimed) ==
  IF claimed = 0 THEN "stale"
  ELSE IF Size(claimed) > Size(h) THEN "rollback"
  ELSE IF claimed \notin Path(h) THEN "fork"
  ELSE "known"

CheckHighest(h, c, claimed, hello) ==
  LET entry == tree[h].table[c]
  IN IF Weak("highest evidence") \/ claimed = entry.issued \/ claimed = entry.acked THEN "known"
     ELSE LET judged == Judge(h, claimed)
          IN IF judged = "known" /\ hello /\ Size(claimed) < Size(entry.acked) THEN "stale" ELSE judged

CheckStream(h, c, t, claimed) ==
  LET stream == tree[h].table[c].streams[t]
  IN IF claimed = stream.issued THEN "latest"
     ELSE IF claimed = stream.acked THEN "before"
     ELSE IF Weak("stream evidence") THEN "latest"
     ELSE LET judged == Judge(h, claimed) IN IF judged = "known" THEN "stale" ELSE judged

-----------------------------------------------------------------------------
(* Rulings. A request is [kind, c, t, s, e, n, m, shown, hi], its kind hello, mail or recover. *)

RuleOnMail(h, r, latest) ==
  LET stream == tree[h].table[r.c].streams[r.t]
  IN IF Weak("sequence") THEN "execute"
     ELSE IF r.n = stream.next THEN IF latest THEN "execute" ELSE "stale"
     ELSE IF r.n + 1 = stream.next /\ ~latest /\ ~stream.fenced
       THEN IF r.m = stream.m THEN "redeliver" ELSE "stale"
     ELSE IF r.n > stream.next THEN "gap"
     ELSE "replay"

RuleOnRecover(h, r, latest) ==
  LET stream == tree[h].table[r.c].streams[r.t]
  IN IF r.n = stream.next
       THEN IF latest THEN IF Weak("recover fences") THEN "execute" ELSE "fence" ELSE "stale"
     ELSE IF r.n + 1 = stream.next /\ r.m = stream.m THEN "tell"
     ELSE IF r.n > stream.next THEN "gap"
     ELSE IF r.n + 1 < stream.next THEN "replay"
     ELSE "stale"

\* What the enclave of epoch e, standing on h, does about a mail or RECOVER.
RuleOnRequest(h, e, r) ==
  IF ~Weak("epoch") /\ Session(h, r.c, e) # r.s THEN "unknown session"
  ELSE IF tree[h].alarm THEN "quarantine"
  ELSE LET highest == CheckHighest(h, r.c, r.hi, FALSE)
           stream == CheckStream(h, r.c, r.t, r.shown)
       IN IF highest # "known" THEN highest
          ELSE IF stream \notin {"latest", "before"} THEN stream
          ELSE IF r.kind = "recover" THEN RuleOnRecover(h, r, stream = "latest")
          ELSE RuleOnMail(h, r, stream = "latest")

\* And about a hello (R-16).
RuleOnHello(h, e, r) ==
  IF ~Weak("epoch") /\ r.e # e THEN "unknown session"
  ELSE IF tree[h].alarm THEN "quarantine"
  ELSE IF r.s = Session(h, r.c, e) THEN "replay"
  ELSE IF r.s < Session(h, r.c, e) THEN "stale"
  ELSE LET highest == CheckHighest(h, r.c, r.hi, TRUE)
       IN IF highest = "known" THEN "welcome" ELSE highest

Ruling(h, e, r) == IF r.kind = "hello" THEN RuleOnHello(h, e, r) ELSE RuleOnRequest(h, e, r)
=============================================================================
