package summarytest_test

import (
	"testing"

	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
)

func TestDatabase_PassesTheConformanceSuite(t *testing.T) {
	t.Parallel()
	summarytest.Run(t, func(testing.TB) summary.Database { return summarytest.New() })
}
