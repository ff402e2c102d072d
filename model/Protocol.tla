------------------------------ MODULE Protocol ------------------------------
(* Clients and enclaves: client/ and pmap/ without bytes, one action for each thing that one of them does at once.

   The host is not in here: it is who chooses which action happens next (Malicious, Honest, Trace). Replies need no
   network of their own. A kept reply is a function of the node that its mail made; the host can give it to the client
   at any later time (redelivery, R-25; the outbox, R-42). An answer that makes no commit (TELL) depends on nothing
   that can change before its client acts, so asking and being told is one step. *)
EXTENDS Freshness

CONSTANTS Clients, Topics

VARIABLES
  heads,      \* epoch -> the node on which its enclave stands; an enclave runs as long as somebody talks to it
  requests,   \* every envelope that was ever sent
  refused,    \* awaited envelopes that an enclave has refused as stale or as a gap
  clients,    \* the clients' states
  durable,    \* what a power cut leaves of each client's state; <<>> where power never fails
  stored,     \* the node that the host's disk holds; 0: the host gives out whatever it likes
  seen,       \* client -> the nodes whose checkpoints it has accepted
  outcomes    \* what clients were told of their mails

vars == <<tree, heads, requests, refused, clients, durable, stored, seen, outcomes>>

Epochs == DOMAIN heads
NoMail == [n |-> 0, m |-> 0, s |-> 0, e |-> 0, shown |-> 0, hi |-> 0]   \* m = 0: no mail
NoHello == [s |-> 0, e |-> 0, hi |-> 0]                                 \* s = 0: no hello

(* next, evidence: the stream's number and the checkpoint of its last reply. pending: the mail whose outcome is open.
   asked: the RECOVER that awaits its answer. again: a fenced mail that its sender still wants executed. *)
NewStream == [next |-> 0, evidence |-> 0, pending |-> NoMail, asked |-> NoMail, again |-> 0]

NewClient == [sent |-> 0, hellos |-> 0, session |-> 0, epoch |-> 0, hello |-> NoHello, highest |-> 0,
              streams |-> [t \in Topics |-> NewStream]]

ProtocolInit ==
  /\ tree = <<Genesis(Clients, Topics)>>
  /\ heads = <<>>
  /\ requests = {} /\ refused = {}
  /\ clients = [c \in Clients |-> NewClient]
  /\ seen = [c \in Clients |-> {}]
  /\ outcomes = {}

-----------------------------------------------------------------------------

\* R-38, R-39: nothing leaves an honest host before it is stored.
Released(x) == stored = 0 \/ OnPath(x, stored) \/ Weak("persist before deliver")

\* R-47: the state is durable before an envelope leaves. What is received is saved, but a power cut may undo that.
SaveDurably(c) == durable' = IF stored = 0 THEN durable ELSE [durable EXCEPT ![c] = clients'[c]]

HelloOf(c) ==
  LET hello == clients[c].hello
  IN [kind |-> "hello", c |-> c, t |-> 0, s |-> hello.s, e |-> hello.e, n |-> 0, m |-> 0, shown |-> 0,
      hi |-> hello.hi]

RequestOf(kind, c, t, sealed) ==
  [kind |-> kind, c |-> c, t |-> t, s |-> sealed.s, e |-> sealed.e, n |-> sealed.n, m |-> sealed.m,
   shown |-> sealed.shown, hi |-> sealed.hi]

\* Whether its sender still waits for an answer to this very envelope.
Awaited(r) ==
  LET client == clients[r.c]
  IN CASE r.kind = "hello" -> client.hello.s # 0 /\ HelloOf(r.c) = r
       [] r.kind = "mail" -> client.streams[r.t].pending.m # 0 /\ RequestOf("mail", r.c, r.t, client.streams[r.t].pending) = r
       [] OTHER -> client.streams[r.t].asked.m # 0 /\ RequestOf("recover", r.c, r.t, client.streams[r.t].asked) = r

-----------------------------------------------------------------------------
(* The enclave. *)

\* A new incarnation on the state of node x: a start, a restart, a rollback or a clone, all alike.
Start(x) ==
  /\ heads' = Append(heads, x)
  /\ UNCHANGED <<tree, requests, refused, clients, durable, stored, seen, outcomes>>

Commit(e, kind, r) ==
  LET x == Len(tree) + 1
  IN /\ tree' = Append(tree, Made(x, kind, e, heads[e], r))
     /\ heads' = [heads EXCEPT ![e] = x]

Commits == {"welcome", "execute", "fence", "rollback", "fork"}
KindOfCommit(ruling) ==
  CASE ruling = "welcome" -> "hello" [] ruling = "execute" -> "exec" [] ruling = "fence" -> "fence" [] OTHER -> "alarm"

\* Epoch e handles an envelope. All else that a ruling can be changes nothing in the enclave.
Handle(e, r) ==
  LET ruling == Ruling(heads[e], e, r)
  IN /\ r \in requests
     /\ IF ruling \in Commits /\ ~(ruling = "fence" /\ Weak("fence is kept"))
          THEN Commit(e, KindOfCommit(ruling), r) /\ UNCHANGED refused
          ELSE /\ ruling \in {"stale", "gap"} /\ Awaited(r) /\ r \notin refused
               /\ refused' = refused \cup {r}
               /\ UNCHANGED <<tree, heads>>
     /\ UNCHANGED <<requests, clients, durable, stored, seen, outcomes>>

\* The host's own call makes a commit that is about no client.
Call(e) ==
  /\ ~tree[heads[e]].alarm
  /\ Commit(e, "call", NoRequest)
  /\ UNCHANGED <<requests, refused, clients, durable, stored, seen, outcomes>>

-----------------------------------------------------------------------------
(* The client: hellos. *)

\* R-47, R-20: a hello to epoch e, under a number of its own, shows the highest evidence.
SayHello(c, e) ==
  LET number == clients[c].hellos + 1
  IN /\ clients' = [clients EXCEPT ![c].hellos = number,
                                   ![c].hello = [s |-> number, e |-> e, hi |-> clients[c].highest]]
     /\ requests' = requests \cup
          {[kind |-> "hello", c |-> c, t |-> 0, s |-> number, e |-> e, n |-> 0, m |-> 0, shown |-> 0,
            hi |-> clients[c].highest]}
     /\ SaveDurably(c)
     /\ UNCHANGED <<tree, refused, stored, seen, outcomes>>

\* client/handshake.py: the welcome of node x is checked against what the hello showed, which must still be the highest.
Welcomed(c, x) ==
  LET client == clients[c] hello == client.hello
  IN /\ hello.s # 0
     /\ tree[x].kind = "hello" /\ tree[x].r = HelloOf(c)
     /\ Released(x)
     /\ Size(x) > Size(hello.hi)
     /\ client.highest = hello.hi \/ Weak("welcome answers the highest evidence")
     /\ ~(Size(x) = Size(client.highest) /\ x # client.highest)
     /\ clients' = [clients EXCEPT ![c].session = hello.s, ![c].epoch = hello.e, ![c].hello = NoHello,
                                   ![c].highest = Higher(x, client.highest)]
     /\ seen' = [seen EXCEPT ![c] = @ \cup {x}]
     /\ UNCHANGED <<tree, heads, requests, refused, durable, stored, outcomes>>

\* No answer, or one that asks for another hello: a stale one, where the highest evidence has moved on meanwhile.
GiveUpHello(c) ==
  /\ clients[c].hello.s # 0
  /\ clients' = [clients EXCEPT ![c].hello = NoHello]
  /\ UNCHANGED <<tree, heads, requests, refused, durable, stored, seen, outcomes>>

-----------------------------------------------------------------------------
(* The client: mails. *)

\* R-48: one mail outstanding on a stream. m: a new mail's identity, or that of a fenced one, sent anew.
Send(c, t, m) ==
  LET client == clients[c] stream == client.streams[t]
      sealed == [n |-> stream.next, m |-> m, s |-> client.session, e |-> client.epoch, shown |-> stream.evidence,
                 hi |-> client.highest]
  IN /\ client.session # 0 /\ stream.pending.m = 0
     /\ clients' = [clients EXCEPT ![c].streams[t].pending = sealed, ![c].streams[t].again = 0,
                                   ![c].sent = IF m > @ THEN m ELSE @]
     /\ requests' = requests \cup {RequestOf("mail", c, t, sealed)}
     /\ IF Weak("pending mail is saved") THEN UNCHANGED durable ELSE SaveDurably(c)
     /\ UNCHANGED <<tree, heads, refused, stored, seen, outcomes>>

\* R-49: a later checkpoint than the stream's, and no other of the highest one's size.
Acceptable(c, t, x) ==
  LET client == clients[c]
  IN /\ Released(x)
     /\ Size(x) > Size(client.streams[t].evidence)
     /\ ~(Size(x) = Size(client.highest) /\ x # client.highest)

\* R-50: the outcome of the pending mail is known. node 0 as again: it need not be sent anew.
Settle(c, t, x, how) ==
  LET pending == clients[c].streams[t].pending
  IN /\ clients' = [clients EXCEPT
          ![c].streams[t] = [next |-> pending.n + 1, evidence |-> x, pending |-> NoMail, asked |-> NoMail,
                             again |-> IF how = "fenced" THEN pending.m ELSE 0],
          ![c].highest = Higher(x, @)]
     /\ seen' = [seen EXCEPT ![c] = @ \cup {x}]
     /\ outcomes' = outcomes \cup {[c |-> c, t |-> t, n |-> pending.n, m |-> pending.m, how |-> how, x |-> x]}
     /\ UNCHANGED <<tree, heads, requests, refused, durable, stored>>

\* R-52: a reply that was sealed for an older session needs RECOVERED first.
Superseded(c, sealed) == ~Weak("superseded sessions tell nothing") /\ clients[c].session # sealed.s

\* The reply of node x to the pending mail.
Accept(c, t, x) ==
  LET pending == clients[c].streams[t].pending
  IN /\ pending.m # 0 /\ ~Superseded(c, pending)
     /\ tree[x].kind = "exec" /\ tree[x].r = RequestOf("mail", c, t, pending)
     /\ Acceptable(c, t, x)
     /\ Settle(c, t, x, "executed")

\* R-51: any other refusal than a replay or an alarm ends the mail unexecuted.
Drop(c, t) ==
  LET pending == clients[c].streams[t].pending
  IN /\ pending.m # 0 /\ ~Superseded(c, pending)
     /\ RequestOf("mail", c, t, pending) \in refused
     /\ clients' = [clients EXCEPT ![c].streams[t].pending = NoMail, ![c].streams[t].asked = NoMail]
     /\ UNCHANGED <<tree, heads, requests, refused, durable, stored, seen, outcomes>>

-----------------------------------------------------------------------------
(* The client: RECOVER. *)

Ask(c, t) ==
  LET client == clients[c] stream == client.streams[t] pending == stream.pending
      sealed == [n |-> pending.n, m |-> pending.m, s |-> client.session, e |-> client.epoch,
                 shown |-> stream.evidence, hi |-> client.highest]
  IN /\ client.session # 0 /\ pending.m # 0
     /\ clients' = [clients EXCEPT ![c].streams[t].asked = sealed]
     /\ requests' = requests \cup {RequestOf("recover", c, t, sealed)}
     /\ SaveDurably(c)
     /\ UNCHANGED <<tree, heads, refused, stored, seen, outcomes>>

\* FENCED, by the commit of node x, which this RECOVER has made.
Fenced(c, t, x) ==
  LET asked == clients[c].streams[t].asked
  IN /\ asked.m # 0 /\ ~Superseded(c, asked)
     /\ tree[x].kind = "fence" /\ tree[x].r = RequestOf("recover", c, t, asked)
     /\ Acceptable(c, t, x)
     /\ Settle(c, t, x, "fenced")

\* FENCED or RECOVERED, told with the evidence of the mail's own reply (R-26), by the asked enclave when it stood on h.
\* A mutant's fence may make no commit.
ToldAt(c, t, h) ==
  LET asked == clients[c].streams[t].asked
      r == RequestOf("recover", c, t, asked)
      stream == tree[h].table[c].streams[t]
      ruling == Ruling(h, asked.e, r)
      x == IF ruling = "fence" \/ Weak("told with the reply's evidence") THEN h ELSE stream.issued
  IN /\ asked.m # 0 /\ ~Superseded(c, asked)
     /\ r \in requests
     /\ ruling = "tell" \/ (ruling = "fence" /\ Weak("fence is kept"))
     /\ Released(stream.issued)
     /\ Acceptable(c, t, x)
     /\ Settle(c, t, x, IF ruling = "fence" \/ stream.fenced THEN "fenced" ELSE "executed")

Told(c, t) ==
  LET asked == clients[c].streams[t].asked
  IN asked.m # 0 /\ ToldAt(c, t, heads[asked.e])

-----------------------------------------------------------------------------
(* The client: a mail that the enclave sends on its own (R-53) carries the checkpoint of the commit that sends it. Any
   commit of the present session's enclave while that session is open may have sent one. *)

TakeInboxMail(c, x) ==
  LET client == clients[c]
  IN /\ client.session # 0 /\ Session(x, c, client.epoch) = client.session /\ tree[x].e = client.epoch
     /\ Released(x)
     /\ Size(x) > Size(client.highest)
     /\ clients' = [clients EXCEPT ![c].highest = x]
     /\ seen' = [seen EXCEPT ![c] = @ \cup {x}]
     /\ UNCHANGED <<tree, heads, requests, refused, durable, stored, outcomes>>

-----------------------------------------------------------------------------
(* The client: evidence of another client, compared with its own. The consistency proof shows that the larger of the two
   begins with the smaller one, and the smaller one is the highest of the moment, not of when the proof was asked for. *)

Compare(c, x) ==
  LET client == clients[c]
  IN /\ client.highest # 0 /\ Size(x) > Size(client.highest)
     /\ \/ OnPath(client.highest, x)
        \/ Weak("compared with the highest evidence") /\ \E y \in seen[c] : OnPath(y, x)
     /\ clients' = [clients EXCEPT ![c].highest = x]
     /\ seen' = [seen EXCEPT ![c] = @ \cup {x}]
     /\ UNCHANGED <<tree, heads, requests, refused, durable, stored, outcomes>>

-----------------------------------------------------------------------------
(* The promises that hold with any host. docs/model.md says them in words. *)

Executions == {x \in Nodes : tree[x].kind = "exec"}
Uses == {x \in Nodes : tree[x].kind \in {"exec", "fence"}}
InSomeView == UNION {Path(x) : x \in UNION {seen[c] : c \in Clients}}

SameNumber(r, q) == r.c = q.c /\ r.t = q.t /\ r.n = q.n
SameMail(r, q) == r.c = q.c /\ r.m = q.m

NoForkJoin ==
  /\ \A c \in Clients : \A x, y \in seen[c] : Comparable(x, y)
  /\ LET viewed == Executions \cap InSomeView
     IN \A x, y \in viewed : (SameNumber(tree[x].r, tree[y].r) /\ SameMail(tree[x].r, tree[y].r)) => x = y

NoDoubleExecution ==
  \A y \in Uses : \A x \in (Uses \cap Path(y)) \ {y} :
    /\ ~SameNumber(tree[x].r, tree[y].r)
    /\ (tree[x].kind = "exec" /\ tree[y].kind = "exec") => ~SameMail(tree[x].r, tree[y].r)

RefusedBeforeExecuted ==
  \A x \in Nodes : tree[x].kind # "alarm" => OnPath(tree[x].r.shown, x) /\ OnPath(tree[x].r.hi, x)

AcknowledgedPresent ==
  \A o \in outcomes :
    IF o.how = "executed"
      THEN /\ tree[o.x].kind = "exec" /\ SameMail(tree[o.x].r, o)
           /\ \A y \in seen[o.c] : Size(y) >= Size(o.x) => OnPath(o.x, y)
      ELSE \A x \in Executions : ~(SameNumber(tree[x].r, o) /\ Comparable(x, o.x))

\* An alarm tells the truth: what it shows is not in the history that it stands in.
NoFalseAlarm ==
  \A x \in Nodes : tree[x].kind = "alarm" => ~(OnPath(tree[x].r.shown, x) /\ OnPath(tree[x].r.hi, x))

QuarantineHolds ==
  \A x \in Nodes : tree[x].kind = "alarm" => \A y \in Nodes : x \in Path(y) => x = y
=============================================================================
