package plan

// EffectOfEdit says what happens in a running process when the field at path is edited. It uses the words of
// docs/plan.md.
func EffectOfEdit(path string) string {
	p := new(Plan)
	for _, fixed := range p.fixed(p) {
		if fixed.field == path {
			return "rejected"
		}
	}
	if waitsForStart(path) {
		return "next start"
	}
	return "at once"
}
