package privateserver

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner is the user who runs a server when this process runs as root. PostgreSQL refuses to run as root.
type owner struct{ uid, gid uint32 }

// ownerFor returns the user with the given name if this process runs as root. Otherwise, it returns nil.
func ownerFor(name string) (*owner, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nil means the user of this process
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("find the user to run the server as: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the ID of user %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the group of user %s: %w", name, err)
	}
	return &owner{uid: uint32(uid), gid: uint32(gid)}, nil
}

func (o *owner) credential() *syscall.Credential {
	if o == nil {
		return nil
	}
	return &syscall.Credential{Uid: o.uid, Gid: o.gid}
}

// chown changes the owner of a file or directory to the user that runs the server.
func (o *owner) chown(path string) error {
	if o == nil {
		return nil
	}
	return os.Lchown(path, int(o.uid), int(o.gid))
}
