package binding

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// product matches a prefix, such as redis, that says nothing about the value of a key. The key must be normalized by
// squash.
var product = regexp.MustCompile(`^(redis|valkey|rabbitmq|rabbit|cloudamqp|amqp|postgresql|postgres|pg|default)`)

// squash returns a name in lower case and without word separators: RABBITMQ_VHOST and rabbitmqVhost become
// rabbitmqvhost.
func squash(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_./ ", r) {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// resembles reports whether the pattern matches the name of a key. It ignores case, word separators, and prefixes such
// as redis or default.
func resembles(name string, pattern *regexp.Regexp) bool {
	for short := squash(name); ; {
		if pattern.MatchString(short) {
			return true
		}
		rest := product.ReplaceAllLiteralString(short, "")
		if rest == short {
			return false
		}
		short = rest
	}
}

func like(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(` + pattern + `)$`) }

// These patterns match names that users frequently give to a key. The function squash must first normalize the name.
var (
	likeURI              = like(`(connection|conn|service|server|database|broker)?(uri|url|string|str)|connection|dsn`)
	likeURIs             = like(`(connection|service|server|database|broker)?(uris|urls)`)
	likeHost             = like(`(host|server|node|service|endpoint|broker|sentinel)s?(host|node)?s?(name|addr|address|host|ip)?(es|s)?|addr(ess)?(es|s)?`)
	likePort             = like(`(tls|ssl|service|server|secure)?ports?(number)?`)
	likeUsername         = like(`(user|usr|login)(name|id)?`)
	likePassword         = like(`(user|auth|require)?pass(word|wd|phrase)?|pwd|auth|secret|credentials?`)
	likeToken            = like(`(access|api|auth|authorization|bearer)*tokens?|bearer|authorization|(access|api|auth)key`)
	likeVhost            = like(`(v|virtual)hosts?(name)?`)
	likeDatabase         = like(`(selected|logical)?(database|db)s?(name|number|num|no|index|id)?[0-9]*|index|select(ed)?`)
	likeMaster           = like(`sentinel(master|primary)(name|set|group|id)*|(master|primary)(set|group)?name`)
	likeSentinelUser     = like(`sentinel(user|login)(name|id)?`)
	likeSentinelPassword = like(`sentinel(user|auth|require)?(pass(word|wd)?|pwd)`)
	likeCA               = like(`(tls|ssl|server|service|client|trusted|x509)*((root)?ca|authority|certificateauthority)s?(cert|certs|certificates?|bundle|chain|file)*(crt|cer|pem|data)?` +
		`|(tls|ssl)*root(cert|certificate|crt|cer|pem)s?(crt|pem)?|(trusted)?certificates|trustedcerts`)
	likeCert = like(`(tls|ssl|client|user)*(cert|certificate|crt)(chain|file)?(crt|cer|pem|cert|data)?|(tls|ssl|client)(chain|cer|pem)`)
	likeKey  = like(`(tls|ssl|client|user)+(private)?key(file)?(pem|data)?|privatekey(file)?(pem|data)?|keypem`)
	// likeTLSSwitch matches keys that enable TLS in other programs, but not in a binding. See checkTLSSwitch.
	likeTLSSwitch = like(`(is|use|enable|require|with)?(m?tls|ssl|https|secure|encrypt(ed|ion)?)(enabled?|required?|mode|on|active)?`)
	// likeScheme matches keys whose value can ask for TLS, such as ssl or amqps.
	likeScheme = like(`(uri|url)?scheme|protocol|transport`)
)

// checkLookalikes rejects a misspelled key if neither the Secret nor the URI contains a value for the right key.
// Without this error, the default would apply silently. u is the URI before the method bind changes it, or nil if no
// URI is valid.
func (s Service) checkLookalikes(keys keyReader, values map[string]string, u *url.URL) error {
	names, err := keys.names()
	if err != nil {
		return err
	}
	table := keyTable()
	for _, name := range names {
		if isKey(table, name) {
			continue
		}
		for _, key := range table {
			if key.lookalike == nil || !resembles(name, key.lookalike) || !slices.Contains(key.services, s) || key.isGiven(values, u) {
				continue
			}
			if value, err := keys.read(name); err != nil || value != "" {
				return cmp.Or(err, fmt.Errorf("key %q is unknown: rename it to %q, or remove it", name, key.name))
			}
		}
	}
	return nil
}

// isKey reports whether the table contains a key with the given name, for any kind of server.
func isKey(table []keySpec, name string) bool {
	return slices.ContainsFunc(table, func(key keySpec) bool { return key.name == name || slices.Contains(key.otherNames(), name) })
}

// checkTLSSwitch returns an error if a key asks for TLS but the URI does not. The parameter from is the key that
// contains the URI, or "" if the URI is not in the Secret.
func (s Service) checkTLSSwitch(keys keyReader, from string, u *url.URL) error {
	if s.usesTLS(u) {
		return nil
	}
	names, err := keys.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		isSwitch, isScheme := resembles(name, likeTLSSwitch), resembles(name, likeScheme)
		if !isSwitch && !isScheme {
			continue
		}
		value, err := keys.read(name)
		if err != nil {
			return err
		}
		if isSwitch && asksForTLS(value) || isScheme && s.namesTLS(value) {
			remedy := "give"
			if from != "" {
				remedy = fmt.Sprintf("set %q to", keyURI)
			}
			return fmt.Errorf("key %q asks for TLS, but has no effect: %s a URI that %s, or add %q", name, remedy, s.tlsForm(), keyCA)
		}
	}
	return nil
}

// asksForTLS reports whether the value of a key such as "tls" asks for TLS. The PostgreSQL modes "allow" and "prefer"
// do not, because they permit connections without TLS.
func asksForTLS(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "", "0", "f", "false", "n", "no", "none", "off", "disable", "disabled", "plain", "plaintext", "allow", "prefer":
		return false
	}
	return true
}

// namesTLS reports whether the value of a key such as "scheme" or "protocol" asks for TLS.
func (s Service) namesTLS(value string) bool {
	protocol, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(value)), ":")
	switch protocol {
	case "tls", "ssl", "amqp+ssl", "redis+tls", "https":
		return true
	}
	return protocol == s.TLSScheme && s != PostgreSQL()
}

func (s Service) usesTLS(u *url.URL) bool {
	if s != PostgreSQL() {
		return u.Scheme == s.TLSScheme
	}
	switch u.Query().Get(parameterSSLMode) {
	case "require", "verify-ca", "verify-full":
		return true
	}
	return false
}

// tlsForm says how a URI of the service selects TLS. It completes a message such as "give a URI that …".
func (s Service) tlsForm() string {
	if s == PostgreSQL() {
		return "has " + parameterSSLMode + "=verify-full"
	}
	return "begins with " + s.TLSScheme + "://"
}
