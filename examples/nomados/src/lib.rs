//! NomadOS: a machine whose only job is to run Nomad
