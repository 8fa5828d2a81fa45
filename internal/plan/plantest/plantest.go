// Package plantest writes plan files for tests.
package plantest

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Write writes a plan to a file. If the file exists, it is replaced atomically, so that readers never see an incomplete
// plan.
func Write(p *plan.Plan, path string) error {
	text, err := p.Marshal()
	if err != nil {
		return err
	}
	if err := document.WriteFile(path, text); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}
