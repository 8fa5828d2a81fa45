package rabbitmq

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// remedy is the advice for an error with which RabbitMQ or the client library ends a connection or a channel.
type remedy struct {
	code int
	// text is a part of the error's reason. If it is empty, the remedy applies to every reason.
	text   string
	remedy string
	// isConfig is true if the error lasts until somebody changes settings, credentials or permissions.
	isConfig bool
}

const (
	grantRights = "grant the user the permissions to configure, write and read '^parking\\.' with rabbitmqctl set_permissions"
	seeCluster  = "a node of the cluster may be down: see 'rabbitmqctl cluster_status'"
	seeQueue    = "see 'rabbitmqctl cluster_status' and the log of RabbitMQ"
)

// The first match applies, so "node connection limit" must come before "connection limit". The texts are those of
// RabbitMQ 3.10 to 4.1 and of the client library.
var remedies = []remedy{
	// Errors while logging in.
	{amqp.NotAllowed, "node connection limit", "raise connection_max in rabbitmq.conf, or close unused connections", false},
	{amqp.NotAllowed, "user connection limit", "raise max-connections with rabbitmqctl set_user_limits, or close unused connections", false},
	{amqp.NotAllowed, "limit cannot be queried", seeCluster, false},
	{amqp.NotAllowed, "connection limit", "raise max-connections with rabbitmqctl set_vhost_limits, or close unused connections", false},
	{amqp.NotAllowed, "not found", "create it with rabbitmqctl add_vhost, or correct the virtual host in the path of the URI or in the key vhost", true},
	{amqp.NotAllowed, "refused for user", "grant the user access to the virtual host with rabbitmqctl set_permissions", true},
	{amqp.AccessRefused, "shared mechanism", "the server offers no login mechanism that this client can use: add PLAIN (user name and password) or EXTERNAL " +
		"(client certificate without a user name) to auth_mechanisms in rabbitmq.conf, or change the Secret", true},
	{amqp.AccessRefused, "access to ", grantRights, true},
	{amqp.AccessRefused, "", "correct the user name or password", true},
	{amqp.InternalError, "is down", "start the virtual host with rabbitmqctl restart_vhost", false},

	// Errors while opening channels.
	{amqp.NotAllowed, "opened for user", "raise max-channels with rabbitmqctl set_user_limits, or use fewer partitions", false},
	{amqp.NotAllowed, "opened on node", "raise channel_max_per_node in rabbitmq.conf, or use fewer partitions", false},
	{amqp.NotAllowed, "negotiated channel_max", raiseChannels, true},
	{amqp.ChannelError, "channel id space exhausted", raiseChannels, true},

	// Errors while declaring the exchange and the queues.
	{amqp.PreconditionFailed, "inequivalent arg", "it exists with other settings; delete it, or give the simulation another name", true},
	{amqp.PreconditionFailed, "limit in vhost", "raise max-queues with rabbitmqctl set_vhost_limits, or delete unused queues", true},
	{amqp.PreconditionFailed, "limit in cluster", "raise cluster_queue_limit in rabbitmq.conf, or delete unused queues", true},
	{amqp.PreconditionFailed, "invalid arg", "this version of RabbitMQ does not support the argument: upgrade RabbitMQ", true},
	{amqp.InternalError, "feature flag is disabled", "run 'rabbitmqctl enable_feature_flag all'", true},
	{amqp.ResourceLocked, "", "another connection uses the queue exclusively: delete the queue, or give the simulation another name", true},
	{amqp.NotFound, "is down", seeCluster, false},
	{amqp.NotFound, "stopped by supervisor", "the queue has stopped: " + seeQueue, false},
	{amqp.NotFound, "has crashed", "the queue has crashed: " + seeQueue, false},
	{amqp.NotFound, "failed to perform operation", "the queue does not respond: " + seeQueue, false},
	{amqp.InternalError, "", "see the log of RabbitMQ; a quorum queue needs a majority of the nodes", false},

	// Errors while consuming. The default of consumer_timeout is 30 minutes.
	{amqp.PreconditionFailed, "timed out", "the server stopped waiting for an acknowledgement: raise consumer_timeout in rabbitmq.conf, " +
		"and find out why processing takes so long", false},
}

// raiseChannels is the remedy for too many channels on one connection.
const raiseChannels = "raise channel_max in rabbitmq.conf, or use fewer partitions"

// find returns the first entry of remedies that matches an error, or the zero value if no entry matches.
func find(err *amqp.Error) remedy {
	for _, row := range remedies {
		if err.Code == row.code && strings.Contains(err.Reason, row.text) {
			return row
		}
	}
	return remedy{}
}

// withRemedy adds the remedy, if any, to an error with which the server closed a connection or a channel. All other
// errors stay unchanged.
func withRemedy(err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return err
	}
	row := find(refusal)
	if row.remedy == "" || strings.Contains(err.Error(), row.remedy) {
		return err
	}
	err = fmt.Errorf("%w: %s", err, row.remedy)
	if row.isConfig {
		return &configError{err}
	}
	return err
}
