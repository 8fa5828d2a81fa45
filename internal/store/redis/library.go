package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// SetLibraryLogger sends what the client library has to say of its connections to l, at level debug: the
// store's own errors say the same to whom it concerns. The library has one logger for the whole process,
// and without this writes to stderr, so it is for main to call, once.
func SetLibraryLogger(l *slog.Logger) { goredis.SetLogger(libraryLogger{logger: l}) }

// libraryLogger is the library's idea of a logger.
type libraryLogger struct {
	logger *slog.Logger
}

// Printf logs one message.
func (l libraryLogger) Printf(ctx context.Context, format string, args ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
