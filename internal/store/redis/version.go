package redis

import "context"

// Version implements store.Store. It returns the name and the version that the server reports in the INFO reply.
func (s *Store) Version(ctx context.Context) (string, error) {
	info, err := s.client.Info(ctx, "server").Result()
	if err != nil {
		return "", s.failure(ctx, "read the version of the server", err)
	}
	return versionIn(info), nil
}

// versionIn returns the name and the version of the server. Valkey also reports the Redis version with which it is
// compatible.
func versionIn(info string) string {
	if version, found := infoField(info, "valkey_version"); found {
		return "Valkey " + version
	}
	version, _ := infoField(info, "redis_version")
	return "Redis " + version
}
