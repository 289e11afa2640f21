# Certificates, and the four programs of the control plane.

certificate() { # NAME SUBJECT EXTENSION
  (
    cd "$state/pki"
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 365 \
      -out "$1.crt" -extfile <(echo "$3") 2>/dev/null
  )
}

certificates() {
  (
    cd "$state/pki"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 365 -subj "/CN=a test's cluster" 2>/dev/null
    openssl genrsa -out accounts.key 2048 2>/dev/null
    openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
  )
  certificate apiserver /CN=kube-apiserver "subjectAltName=IP:127.0.0.1,IP:$control_plane,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  certificate administrator /O=system:masters/CN=administrator extendedKeyUsage=clientAuth
}

# A kubeconfig for the owner of a certificate.
kubeconfig() { # CERTIFICATE FILE
  local pki=$state/pki
  cat >"$2" <<Y
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: $1}}]
clusters: [{name: test, cluster: {server: "https://$control_plane:6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}}]
Y
  chmod 600 "$2"
}

control_plane() {
  local pki=$state/pki
  network control-plane $control_plane
  certificates
  kubeconfig administrator "$kubeconfig"
  start control-plane etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync --log-level=warn
  start control-plane kube-apiserver "$(tool kube-apiserver)" --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address=$control_plane --secure-port=6443 --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=Node,RBAC --allow-privileged=true \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate="$pki/administrator.crt" --kubelet-client-key="$pki/administrator.key" \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$pki/accounts.pub" --service-account-signing-key-file="$pki/accounts.key"
  within "the API server is ready" k get --raw /readyz
  start control-plane kube-controller-manager "$(tool kube-controller-manager)" --kubeconfig="$kubeconfig" \
    --service-account-private-key-file="$pki/accounts.key" --root-ca-file="$pki/ca.crt" \
    --use-service-account-credentials --leader-elect=false
  start control-plane kube-scheduler "$(tool kube-scheduler)" --kubeconfig="$kubeconfig" --leader-elect=false
}
