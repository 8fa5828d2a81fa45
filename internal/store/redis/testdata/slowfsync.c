// Preloaded into a server, makes its background threads take SLOW_FSYNC_MS longer for each fdatasync, as a
// busy disk does: the condition under which Redis answers before it has written its log.
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int fd) {
  const char *ms = getenv("SLOW_FSYNC_MS");
  if (ms != NULL && syscall(SYS_gettid) != getpid()) usleep(1000 * atoi(ms));
  return syscall(SYS_fdatasync, fd);
}
