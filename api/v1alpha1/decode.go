package v1alpha1

import "encoding/json"

// Decoding a stored object never fails because of a value of the wrong type. The schema of the CRD may have changed
// since an object was stored, and one object that cannot be decoded would break the operator's lists and watches. The
// operator could then manage no simulation in the cluster.

// UnmarshalJSON decodes a spec and skips values of the wrong type. If it skips any, it stores the JSON text of the
// whole spec in Undecodable, so that the operator can report the simulation as invalid.
func (s *ParkingSimulationSpec) UnmarshalJSON(text []byte) error {
	type spec ParkingSimulationSpec // this type has no methods, so json.Unmarshal does not call UnmarshalJSON again
	var decoded spec
	if json.Unmarshal(text, &decoded) != nil {
		decoded.Undecodable = append([]byte(nil), text...)
	}
	*s = ParkingSimulationSpec(decoded)
	return nil
}

// UnmarshalJSON decodes a status. A status that cannot be decoded, for example because of an invalid time, becomes
// empty, and the operator writes it again.
func (s *ParkingSimulationStatus) UnmarshalJSON(text []byte) error {
	type status ParkingSimulationStatus // this type has no method UnmarshalJSON, so json.Unmarshal does not recurse
	var decoded status
	if json.Unmarshal(text, &decoded) != nil {
		decoded = status{}
	}
	*s = ParkingSimulationStatus(decoded)
	return nil
}
