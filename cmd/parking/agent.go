package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/relay"
)

const agentHelp = `Kill, pause or isolate another container of the same pod when the operator asks for it. The
operator adds this command as a container to the pods that are targets of faults.

The agent finds its target by a mount: only the target container mounts a volume at the path
--target, and the agent signals every process that has this mount. These processes must run as the
same user as the agent, and the pod must have shareProcessNamespace set. To isolate a server, the
agent closes the connections that --relay forwards to it.`

// agentTokenFile is the name of the file with the token in the directory of the agent's mounted Secret.
const agentTokenFile = "token"

type agentFlags struct {
	target, http, secrets, relay string
	level                        logLevel
}

// listen starts the relay that the flag --relay describes and returns it. It returns nil if the flag is not set.
func (f *agentFlags) listen(ctx context.Context) (*relay.Relay, error) {
	if f.relay == "" {
		return nil, nil //nolint:nilnil // an agent works without a relay
	}
	address, server, ok := strings.Cut(f.relay, "=")
	if !ok {
		return nil, fmt.Errorf("--relay: must have the form ADDRESS=SERVER, such as :8091=127.0.0.1:6379, got %q", f.relay)
	}
	forwarding, err := relay.Listen(ctx, address, server)
	if err != nil {
		return nil, fmt.Errorf("--relay: %w", err)
	}
	return forwarding, nil
}

func (c *cli) agentCommand() *cobra.Command {
	var flags agentFlags
	cmd := &cobra.Command{
		Use:                   "agent --secret-dir DIR [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Inject faults into another container of the same pod",
		Long:                  agentHelp,
		Example:               "  parking agent --secret-dir /run/secrets/agent",
		GroupID:               groupComponents,
		RunE:                  runs(func(ctx context.Context) error { return c.agent(ctx, flags) }),
	}
	cmd.Flags().StringVar(&flags.target, "target", agent.Marker, "inject faults into the container that has a mount at this `path`")
	cmd.Flags().StringVar(&flags.http, "http", ":8090", "`address` for commands; TLS only")
	cmd.Flags().StringVar(&flags.secrets, "secret-dir", "", "`directory` with the files token, tls.crt and tls.key (required)")
	cmd.Flags().StringVar(&flags.relay, "relay", "", "forward connections at ADDRESS to SERVER, so that the agent can cut them; `ADDRESS=SERVER` such as :8091=127.0.0.1:6379")
	cmd.Flags().Var(&flags.level, "log-level", "minimum level of log messages: debug, info, warn or error")
	_ = cmd.MarkFlagRequired("secret-dir") // cannot fail, because the flag exists
	_ = cmd.MarkFlagDirname("secret-dir")
	return cmd
}

func (c *cli) agent(ctx context.Context, flags agentFlags) error {
	if !filepath.IsAbs(flags.target) {
		return badInput(fmt.Errorf("--target: must be an absolute path such as %s", agent.Marker))
	}
	log := c.logger(flags.level.Level)
	token := func() (string, error) {
		text, err := os.ReadFile(filepath.Join(flags.secrets, agentTokenFile))
		return strings.TrimSpace(string(text)), err
	}
	if _, err := token(); err != nil {
		return badInput(fmt.Errorf("--secret-dir: %w", err))
	}
	own, err := openCertificate(flags.secrets, log)
	if err != nil {
		return badInput(fmt.Errorf("--secret-dir: %w", err))
	}
	forwarding, err := flags.listen(ctx)
	if err != nil {
		return badInput(err)
	}
	if forwarding != nil {
		defer closeAndLog(log, "relay", forwarding)
	}
	a := agent.New(agent.Config{Target: flags.target, Relay: forwarding}, log)
	defer a.Close()
	server, err := httpserver.Listen(ctx, flags.http, agent.Handler(a, token), log)
	if err != nil {
		return listenError(err, "choose another address with --http")
	}
	server = server.WithTLS(&tls.Config{GetCertificate: own.get, MinVersion: tls.VersionTLS13})
	log.Info("Listening for commands from the operator", "address", server.Address(), "target", flags.target)
	return server.Serve(ctx)
}
