"""The client SDK: mail to an enclave, the evidence that keeps its host honest, and verdicts."""
