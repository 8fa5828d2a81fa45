// Package rabbitmq implements the interfaces of package broker with RabbitMQ 3.10 or later.
//
// A simulation has one durable direct exchange, parking.<simulation>, and these queues, where p is a partition:
//
//	queue                                  routing key       contains
//	parking.<simulation>.entry.<p>         entry.<p>         entry events
//	parking.<simulation>.exit.<p>          exit.<p>          exit events
//	parking.<simulation>.retry.entry.<p>   retry.entry.<p>   entry events that wait for another attempt
//	parking.<simulation>.retry.exit.<p>    retry.exit.<p>    exit events that wait for another attempt
//	parking.<simulation>.dead              dead              messages that cannot be processed
//
// The exchange parking.<simulation>.owner only records the owner of the queues; see declareOwner.
//
// External publishers publish with the routing key of an entry or exit queue. The partition must be that of
// event.PartitionOf. No header or property is required.
package rabbitmq
