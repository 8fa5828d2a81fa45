// Package rabbitmq is the broker on a RabbitMQ server, from version 3.10 on.
//
// # Topology
//
// A simulation has one durable direct exchange, parking.<simulation>, and for each partition p:
//
//	queue                              routing key       holds
//	parking.<simulation>.entry.<p>     entry.<p>         entry events
//	parking.<simulation>.exit.<p>      exit.<p>          exit events
//	parking.<simulation>.retry.entry.<p>   retry.entry.<p>   entry events that wait for another attempt
//	parking.<simulation>.retry.exit.<p>    retry.exit.<p>    exit events that do
//
// and parking.<simulation>.dead with the key dead, for messages that cannot be processed. What is in a
// retry queue expires after the retry delay and returns, by dead-lettering, to the queue it came from.
//
// The queues are quorum queues, which keep a confirmed message as long as most nodes of a cluster do, or
// durable classic ones. A quorum queue hands dead letters over with confirms. A classic queue does not: an
// event that returns from its retry queue at the moment at which the node is killed may be lost.
//
// A quorum queue gives a message that it has delivered too often up to the dead-letter queue; see
// DefaultDeliveryLimit. A server closes the channel of a consumer that leaves a message unsettled for longer
// than its consumer_timeout, 30 minutes by default, and delivers the messages again. A consumer holds in
// memory as many messages as its prefetch says, however large the server let them be.
//
// Any program may publish to the exchange. It needs the keys entry.<p> and exit.<p>, where p is the
// partition of the plate (the 32-bit FNV-1a hash of its bytes, modulo the number of partitions), a body in
// the wire format of package event, and nothing else: no header or property is required.
//
// Publishers and consumers declare what they need whenever they open a channel, so a queue that is deleted
// comes back, empty. A queue that exists with other arguments is an error that is logged, and tried again.
//
// # Connections
//
// There are up to three, each made when it is first needed: one publishes, one consumes, and one serves
// Declare, Depths and Delete. A server whose memory or disk alarm is on stops reading from a connection that
// publishes, which must not keep acknowledgements from it. Publishing and consuming reconnect for as long as
// it takes, with the address that the source gives at that time. What is logged is that a connection is
// lost and why, and that there is one again, not each attempt.
package rabbitmq
