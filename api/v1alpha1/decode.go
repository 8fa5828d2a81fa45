package v1alpha1

import "encoding/json"

// Decoding never fails: one stored object that an older CRD accepted, but that cannot be decoded, would break the
// operator's lists and watches of all simulations.

// UnmarshalJSON decodes a spec and skips values of the wrong type. If it skips any, Undecodable gets the JSON text of
// the whole spec.
func (s *ParkingSimulationSpec) UnmarshalJSON(text []byte) error {
	type spec ParkingSimulationSpec // this type has no methods, so json.Unmarshal does not call UnmarshalJSON again
	var decoded spec
	if json.Unmarshal(text, &decoded) != nil {
		decoded.Undecodable = append([]byte(nil), text...)
	}
	*s = ParkingSimulationSpec(decoded)
	return nil
}

// UnmarshalJSON decodes a status. If the status cannot be decoded, for example because of an invalid time, the result
// is an empty status. The next reconcile then writes a new status.
func (s *ParkingSimulationStatus) UnmarshalJSON(text []byte) error {
	type status ParkingSimulationStatus // this type has no method UnmarshalJSON, so json.Unmarshal does not recurse
	var decoded status
	if json.Unmarshal(text, &decoded) != nil {
		decoded = status{}
	}
	*s = ParkingSimulationStatus(decoded)
	return nil
}
