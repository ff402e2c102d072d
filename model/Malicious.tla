----------------------------- MODULE Malicious -----------------------------
(* The host does as it likes: it starts any number of enclaves on any state that ever was (rollback, fork, clone,
   crash, restart), hands any envelope that was ever sent to any of them, in any order and any number of times, and any
   reply to the client that waits for it, or never. It may make commits of its own (receive_from_host).

   Two reductions, both without loss: an enclave is started when a client first says hello to it, because before that
   it does nothing; and a hello's session is not asked for before there is a reason (a client says hello to another
   epoch than that of its session, or again to the same one while hellos are left). *)
EXTENDS Protocol, TLC

CONSTANTS MaxEpochs, MaxNodes, MaxMails, MaxHellos, MaxCalls, InboxMails, Comparisons

Init ==
  /\ ProtocolInit
  /\ stored = 0
  /\ durable = <<>>

\* A later start, from which more is in reach: every client has been welcomed by the first enclave, in any order.
EnrolledInit ==
  /\ \E order \in [Clients -> 2..Cardinality(Clients) + 1] :
       /\ \A c, d \in Clients : c # d => order[c] # order[d]
       /\ LET hello(c) == [NoRequest EXCEPT !.kind = "hello", !.c = c, !.s = 1, !.e = 1]
              entry(c, x) == IF order[c] > x THEN NewEntry(Topics)
                             ELSE [NewEntry(Topics) EXCEPT !.session = 1, !.epoch = 1, !.issued = order[c]]
              node(x) == LET c == CHOOSE d \in Clients : order[d] = x
                         IN [kind |-> "hello", e |-> 1, r |-> hello(c), path |-> 1..x, size |-> x, alarm |-> FALSE,
                             table |-> [d \in Clients |-> entry(d, x)]]
          IN /\ tree = [x \in 1..Cardinality(Clients) + 1 |-> IF x = 1 THEN Genesis(Clients, Topics) ELSE node(x)]
             /\ requests = {hello(c) : c \in Clients}
       /\ clients = [c \in Clients |-> [NewClient EXCEPT !.hellos = 1, !.session = 1, !.epoch = 1, !.highest = order[c]]]
       /\ seen = [c \in Clients |-> {order[c]}]
  /\ heads = <<Cardinality(Clients) + 1>>
  /\ refused = {} /\ outcomes = {}
  /\ stored = 0 /\ durable = <<>>

HelloToNew(c, x) ==
  LET e == Len(heads) + 1
  IN /\ e <= MaxEpochs
     /\ SayHello(c, e)
     /\ heads' = Append(heads, x)

HelloToOld(c, e) == SayHello(c, e) /\ UNCHANGED heads

MailsToSend(c, t) ==
  LET client == clients[c]
  IN (IF client.streams[t].again # 0 THEN {client.streams[t].again} ELSE {})
     \cup (IF client.sent < MaxMails THEN {client.sent + 1} ELSE {})

ClientSteps ==
  \E c \in Clients :
    \/ /\ clients[c].hellos < MaxHellos
       /\ \/ \E x \in Nodes : HelloToNew(c, x)
          \/ \E e \in Epochs \ {clients[c].epoch} : HelloToOld(c, e)
    \/ \E x \in Nodes : Welcomed(c, x)
    \/ \E t \in Topics :
         \/ \E m \in MailsToSend(c, t) : Send(c, t, m)
         \/ \E x \in Nodes : Accept(c, t, x) \/ Fenced(c, t, x)
         \/ Drop(c, t)
         \/ clients[c].streams[t].asked.s # clients[c].session /\ Ask(c, t)
         \/ Told(c, t)
    \/ InboxMails /\ \E x \in Nodes : TakeInboxMail(c, x)
    \/ Comparisons /\ \E d \in Clients \ {c} : Compare(c, clients[d].highest)

EnclaveSteps ==
  /\ Len(tree) < MaxNodes
  /\ \/ \E e \in Epochs, r \in requests : Handle(e, r)
     \/ /\ Cardinality({x \in Nodes : tree[x].kind = "call"}) < MaxCalls
        /\ \E e \in Epochs : Call(e)

\* Where mails are bound to no epoch, an enclave can be handed mails before anybody says hello to it.
Next ==
  \/ ClientSteps
  \/ EnclaveSteps
  \/ Weak("epoch") /\ Len(heads) < MaxEpochs /\ \E x \in Nodes : Start(x)

Spec == Init /\ [][Next]_vars
EnrolledSpec == EnrolledInit /\ [][Next]_vars

Symmetry == Permutations(Clients)
=============================================================================
