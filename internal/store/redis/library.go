package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// SetLibraryLogger sends the messages of the client library to l, at level debug: the errors of the store contain the
// same information. The library has one logger for the whole process, and writes to stderr by default. Only main
// calls SetLibraryLogger, once.
func SetLibraryLogger(l *slog.Logger) { goredis.SetLogger(libraryLogger{logger: l}) }

// libraryLogger implements the logger of the client library.
type libraryLogger struct {
	logger *slog.Logger
}

// Printf logs one message.
func (l libraryLogger) Printf(ctx context.Context, format string, args ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
