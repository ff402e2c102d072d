------------------------------- MODULE Honest -------------------------------
(* An honest host and bad luck. One enclave runs at a time; it may work ahead of the disk, but nothing leaves before
   it is stored (R-38, R-39). Things go wrong up to MaxFaults times: enclave and host crash and start again from the
   disk, requests are lost, an answer does not come in time, a client's power fails and its state is what it last
   saved durably. The network also delays, reorders and repeats at will: a request that was sent can arrive at any later
   time, any number of times. *)
EXTENDS Protocol

CONSTANTS MaxMails, MaxFaults

VARIABLE faults

allVars == <<vars, faults>>

Init ==
  /\ ProtocolInit
  /\ stored = 1
  /\ durable = clients
  /\ faults = 0

Epoch == Len(heads)

Calm(step) == step /\ UNCHANGED faults
Fault(step) == faults < MaxFaults /\ step /\ faults' = faults + 1

-----------------------------------------------------------------------------
(* What goes on anyway. *)

FirstStart == Epoch = 0 /\ Start(stored)

Persist ==
  /\ Epoch > 0 /\ stored # heads[Epoch]
  /\ stored' = heads[Epoch]
  /\ UNCHANGED <<tree, heads, requests, refused, clients, durable, seen, outcomes>>

Process(r) == Epoch > 0 /\ Handle(Epoch, r)

\* A client says hello when it has no session with the enclave that runs.
Hello(c) ==
  /\ Epoch > 0 /\ clients[c].hello.s = 0
  /\ clients[c].session = 0 \/ clients[c].epoch # Epoch
  /\ SayHello(c, Epoch)
  /\ UNCHANGED heads

TakeWelcome(c) == \E x \in Nodes : Welcomed(c, x)

\* A welcome that came too late to say anything of the highest evidence; a refusal that asks for another hello; an
\* enclave that is no longer there.
AnotherHello(c) ==
  /\ \/ clients[c].hello.e # Epoch
     \/ HelloOf(c) \in refused /\ clients[c].highest # clients[c].hello.hi
     \/ ~Weak("welcome answers the highest evidence") /\ clients[c].highest # clients[c].hello.hi
          /\ \E x \in Path(stored) : tree[x].kind = "hello" /\ tree[x].r = HelloOf(c)
  /\ GiveUpHello(c)

\* A fenced mail is sent anew before another one.
SendMail(c, t) ==
  LET client == clients[c]
  IN /\ client.epoch = Epoch
     /\ IF client.streams[t].again # 0 THEN Send(c, t, client.streams[t].again)
        ELSE client.sent < MaxMails /\ Send(c, t, client.sent + 1)

TakeReply(c, t) == \E x \in Nodes : Accept(c, t, x)

\* R-51, R-52: under a newer session than the mail's, or where the enclave refuses the mail itself as a replay.
AskAgain(c, t) ==
  LET client == clients[c] stream == client.streams[t] mail == RequestOf("mail", c, t, stream.pending)
  IN /\ stream.pending.m # 0 /\ stream.asked.s # client.session
     /\ \/ stream.pending.s # client.session
        \/ ~Weak("a replay is asked about") /\ client.epoch = Epoch /\ Ruling(heads[Epoch], Epoch, mail) = "replay"
     /\ Ask(c, t)

TakeAnswer(c, t) == Told(c, t) \/ \E x \in Nodes : Fenced(c, t, x)

\* The same bytes again, while their answer does not come.
Resend(r) ==
  /\ r \notin requests
  /\ requests' = requests \cup {r}
  /\ UNCHANGED <<tree, heads, refused, clients, durable, stored, seen, outcomes>>

ResendWhatWaits(c) ==
  \/ clients[c].hello.s # 0 /\ Resend(HelloOf(c))
  \/ \E t \in Topics :
       LET stream == clients[c].streams[t]
       IN \/ stream.pending.m # 0 /\ stream.pending.s = clients[c].session /\ Resend(RequestOf("mail", c, t, stream.pending))
          \/ stream.asked.m # 0 /\ stream.asked.s = clients[c].session /\ Resend(RequestOf("recover", c, t, stream.asked))

-----------------------------------------------------------------------------
(* Faults. *)

Crash == Epoch > 0 /\ Start(stored)

Lose(r) ==
  /\ r \in requests
  /\ requests' = requests \ {r}
  /\ UNCHANGED <<tree, heads, refused, clients, durable, stored, seen, outcomes>>

\* The host says nothing, or that the outcome is not known: the client asks under the session that it has.
Impatient(c, t) ==
  /\ clients[c].streams[t].pending.s = clients[c].session
  /\ clients[c].streams[t].asked.m = 0
  /\ Ask(c, t)

\* The process ends and starts from what is on its disk. A mail's identity is not used again: it is the user's.
PowerCut(c) ==
  /\ clients' = [clients EXCEPT ![c] =
       [durable[c] EXCEPT !.hello = NoHello, !.sent = clients[c].sent,
                          !.streams = [t \in Topics |-> [durable[c].streams[t] EXCEPT !.asked = NoMail]]]]
  /\ UNCHANGED <<tree, heads, requests, refused, durable, stored, seen, outcomes>>

Faults ==
  \/ Crash
  \/ \E r \in requests : Awaited(r) /\ Lose(r)
  \/ \E c \in Clients : PowerCut(c) \/ (clients[c].hello.s # 0 /\ GiveUpHello(c)) \/ \E t \in Topics : Impatient(c, t)

-----------------------------------------------------------------------------

ClientStep(c) ==
  \/ Hello(c) \/ TakeWelcome(c) \/ AnotherHello(c) \/ ResendWhatWaits(c)
  \/ \E t \in Topics : SendMail(c, t) \/ TakeReply(c, t) \/ AskAgain(c, t) \/ TakeAnswer(c, t)

Next ==
  \/ Calm(FirstStart \/ Persist \/ \E r \in requests : Process(r))
  \/ \E c \in Clients : Calm(ClientStep(c))
  \/ Fault(Faults)

\* Whoever can go on does so, in the end. Faults come as they like, and end.
Fairness ==
  /\ WF_allVars(Calm(FirstStart)) /\ WF_allVars(Calm(Persist))
  /\ \A c \in Clients :
       /\ WF_allVars(Calm(\E r \in requests : r.c = c /\ Awaited(r) /\ Process(r)))
       /\ WF_allVars(Calm(Hello(c))) /\ WF_allVars(Calm(TakeWelcome(c))) /\ WF_allVars(Calm(AnotherHello(c)))
       /\ WF_allVars(Calm(ResendWhatWaits(c)))
       /\ \A t \in Topics :
            /\ WF_allVars(Calm(SendMail(c, t))) /\ WF_allVars(Calm(TakeReply(c, t)))
            /\ WF_allVars(Calm(AskAgain(c, t))) /\ WF_allVars(Calm(TakeAnswer(c, t)))

Spec == Init /\ [][Next]_allVars
FairSpec == Spec /\ Fairness

-----------------------------------------------------------------------------
(* The promises that need an honest host. *)

NoAlarm ==
  /\ \A x \in Nodes : tree[x].kind # "alarm"
  /\ \A r \in refused : Awaited(r) => r.kind = "hello" /\ clients[r.c].highest # r.hi

\* What a client was told of is on the disk and stays there, whatever crashes.
AcknowledgedStored ==
  \A o \in outcomes : o.how = "executed" => OnPath(o.x, stored)

Done(c, m) == \E o \in outcomes : o.c = c /\ o.m = m /\ o.how = "executed"

EveryMailIsAnswered ==
  \A c \in Clients, m \in 1..MaxMails : (clients[c].sent >= m) ~> Done(c, m)
=============================================================================
