package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// SetLibraryLogger makes the Redis client library log to l at debug level. A higher level is not necessary, because
// the errors of the store contain the same information. The library has one logger for the whole process, which
// writes to stderr by default. Therefore only main should call SetLibraryLogger, and only once.
func SetLibraryLogger(l *slog.Logger) { goredis.SetLogger(libraryLogger{logger: l}) }

// libraryLogger implements the logger interface of the client library.
type libraryLogger struct {
	logger *slog.Logger
}

// Printf logs one message of the client library.
func (l libraryLogger) Printf(ctx context.Context, format string, args ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
