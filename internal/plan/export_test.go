package plan

// EffectOfEdit returns the effect of an edit of a field on running processes, in the words of docs/plan.md.
func EffectOfEdit(path string) string {
	p := new(Plan)
	for _, fixed := range p.fixed(p) {
		if fixed.field == path {
			return "refused"
		}
	}
	if waitsForStart(path) {
		return "next start"
	}
	return "at once"
}
